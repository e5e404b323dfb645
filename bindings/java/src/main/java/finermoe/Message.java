package finermoe;

/**
 * One message of a {@link Chat}.
 *
 * @param role "system", "user" or "assistant"
 * @param text what it says
 */
public record Message(String role, String text) {
  /**
   * What the model is to know beforehand.
   *
   * @param text what it says
   * @return a message
   */
  public static Message system(String text) {
    return new Message("system", text);
  }

  /**
   * What the user says.
   *
   * @param text what it says
   * @return a message
   */
  public static Message user(String text) {
    return new Message("user", text);
  }

  /**
   * What the model says.
   *
   * @param text what it says
   * @return a message
   */
  public static Message assistant(String text) {
    return new Message("assistant", text);
  }
}
