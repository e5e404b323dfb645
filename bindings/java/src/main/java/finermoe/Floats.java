package finermoe;

import java.nio.ByteOrder;
import java.nio.FloatBuffer;

/** Buffers that native code reads and writes in place. */
final class Floats {
  private Floats() {}

  static FloatBuffer direct(FloatBuffer buffer) {
    if (!buffer.isDirect() || buffer.order() != ByteOrder.nativeOrder()) {
      throw new IllegalArgumentException("not a direct buffer in native order");
    }
    return buffer.slice();
  }
}
