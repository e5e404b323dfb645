package finermoe;

/** What a failed call of libfinermoe throws. */
public class FinermoeException extends RuntimeException {
  /** Finermoe.ERROR_…, and what the library expected and found ("" where that says nothing). */
  public final int code;
  public final String expected;
  public final String found;

  FinermoeException(int code, String message, String expected, String found) {
    super(message);
    this.code = code;
    this.expected = expected;
    this.found = found;
  }
}
