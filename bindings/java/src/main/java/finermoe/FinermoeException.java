package finermoe;

/** What a failed call of the library throws. */
public final class FinermoeException extends RuntimeException {
  private static final long serialVersionUID = 1;

  /** The library's number. */
  private final int status;

  /** What the library expected. */
  private final String expected;

  /** What it found. */
  private final String found;

  FinermoeException(int status, String message, String expected, String found) {
    super(message);
    this.status = status;
    this.expected = expected;
    this.found = found;
  }

  /** Called by native code. */
  static FinermoeException of(int status, byte[] message, byte[] expected, byte[] found) {
    return new FinermoeException(status, Utf8.decode(message), Utf8.decode(expected), Utf8.decode(found));
  }

  /**
   * What kind of error it is.
   *
   * @return the code
   */
  public ErrorCode code() {
    return ErrorCode.of(status);
  }

  /**
   * The name of the code in C.
   *
   * @return such as "FINERMOE_ERROR_BUSY"
   */
  public String name() {
    return Native.statusName(status);
  }

  /**
   * What the library expected.
   *
   * @return "" where that says nothing
   */
  public String expected() {
    return expected;
  }

  /**
   * What the library found instead.
   *
   * @return "" where that says nothing
   */
  public String found() {
    return found;
  }
}
