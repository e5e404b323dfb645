package finermoe;

/** Element types of weights and KV caches. */
public enum DType {
  /** 32-bit floating point. */
  F32(Native.DTYPE_F32),
  /** 16-bit floating point. */
  F16(Native.DTYPE_F16),
  /** 16-bit floating point with the exponent of 32. */
  BF16(Native.DTYPE_BF16),
  /** Blocks of 8-bit integers, 8.5 bits for a weight. */
  Q8(Native.DTYPE_Q8),
  /** Blocks of 4-bit integers, 4.5 bits for a weight. */
  Q4(Native.DTYPE_Q4),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  final int value;

  DType(int value) {
    this.value = value;
  }

  static DType of(int value) {
    for (DType one : values()) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
