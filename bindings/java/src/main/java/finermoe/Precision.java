package finermoe;

/** How the products with weights are computed. */
public enum Precision {
  /** With 32-bit activations. */
  EXACT(Native.PRECISION_EXACT),
  /** With activations rounded to the weights' own kind. */
  FAST(Native.PRECISION_FAST),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  final int value;

  Precision(int value) {
    this.value = value;
  }

  static Precision of(int value) {
    for (Precision one : values()) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
