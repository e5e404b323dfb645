package finermoe;

/** A native library of somebody else's, in C++ (src/test/native/other.cc). */
final class OtherRuntime {
  private OtherRuntime() {}

  /** Throws and catches in C++. */
  static native String thrown(String text);
}
