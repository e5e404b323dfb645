package finermoe;

/** Instruction sets that the kernels for the CPU are compiled for. */
public enum Isa {
  /** The best that the machine has. */
  AUTO(Native.ISA_AUTO),
  /** What every processor of this architecture has. */
  PORTABLE(Native.ISA_PORTABLE),
  /** AVX2, FMA and F16C. */
  AVX2(Native.ISA_AVX2),
  /** AVX-512 F, BW, VL, DQ, VNNI and BF16. */
  AVX512(Native.ISA_AVX512),
  /** The same, and AMX with BF16. */
  AMX(Native.ISA_AMX),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  final int value;

  Isa(int value) {
    this.value = value;
  }

  static Isa of(int value) {
    for (Isa one : values()) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
