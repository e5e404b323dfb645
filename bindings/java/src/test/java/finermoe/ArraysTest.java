package finermoe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.FloatBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Arrays and buffers. */
class ArraysTest {
  private static FloatBuffer direct(int n) {
    return ByteBuffer.allocateDirect(4 * n).order(ByteOrder.nativeOrder()).asFloatBuffer();
  }

  @Test
  void buffersHoldTheSameAsArrays() {
    try (Model model = Models.open(); Session session = model.session(SessionOptions.create().hidden(Hidden.KEEP))) {
      session.appendRows(new int[] {1, 2, 3}, Logits.ALL, null);
      final float[] expected = session.logits(2);
      final FloatBuffer buffer = direct(expected.length + 5);
      session.logits(2, buffer.position(5));
      final float[] found = new float[expected.length];
      buffer.get(found);
      assertArrayEquals(expected, found);

      final float[] hidden = session.hidden(1);
      final FloatBuffer state = direct(hidden.length);
      session.hidden(1, state);
      for (int i = 0; i < hidden.length; i++) assertEquals(hidden[i], state.get(i));

      final Generation generation = session.generate(new int[] {4}, GenerationOptions.create());
      generation.prepare();
      final FloatBuffer logits = direct(expected.length);
      generation.logits(logits);
      assertEquals(generation.logits()[7], logits.get(7));
      for (int i = 0; i < expected.length; i++) logits.put(i, i == 99 ? 1 : 0);
      generation.setLogits(logits);
      try (Sampler sampler = Sampler.create(null)) {
        assertEquals(99, sampler.choose(logits));
      }
      assertEquals(99, generation.next().token());
    }
  }

  @Test
  void unfitBuffersAreRefused() {
    try (Model model = Models.open(); Session session = model.session()) {
      session.appendRows(new int[] {1}, Logits.LAST, null);
      assertThrows(IllegalArgumentException.class, () -> session.logits(0, FloatBuffer.allocate(10_000)));
      assertThrows(IllegalArgumentException.class,
          () -> session.logits(0, ByteBuffer.allocateDirect(40_000).order(ByteOrder.BIG_ENDIAN).asFloatBuffer()));
      final FinermoeException error = assertThrows(FinermoeException.class, () -> session.logits(0, direct(7)));
      assertEquals(ErrorCode.BUFFER_TOO_SMALL, error.code());
      assertEquals("7", error.found());
      assertEquals(4096, session.logits(0).length);
    }
  }

  @Test
  void aMappedModelOutlivesItsObjects(@TempDir Path folder) throws Exception {
    final Path file = folder.resolve("q8.safetensors");
    Checkpoints.quantize(Models.MOE, file, null, null);
    final Session session;
    try (FileChannel channel = FileChannel.open(file)) {
      session = Model.open(channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()), null).session();
    }
    for (int i = 0; i < 5; i++) {
      System.gc();
      Thread.sleep(10);
      session.append(new int[] {1, 2, 3});
    }
    final byte[] saved = session.save();
    session.reset();
    session.restore(ByteBuffer.allocateDirect(saved.length).put(saved).flip());
    assertEquals(15, session.length());
    session.close();
  }
}
