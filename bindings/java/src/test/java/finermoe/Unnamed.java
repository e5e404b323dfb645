package finermoe;

/** What the enums of the binding have no name for, and the library has to refuse. */
public final class Unnamed {
  private Unnamed() {}

  /** An instruction set by its number. */
  public static RuntimeOptions isa(RuntimeOptions options, int value) {
    Native.runtimeOptionsSetIsa(options, value);
    return options;
  }
}
