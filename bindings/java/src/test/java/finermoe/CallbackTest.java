package finermoe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertSame;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executor;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.RejectedExecutionException;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Functions of the host: what they throw comes out of the call that they cancel. */
class CallbackTest {
  private static final class Mine extends RuntimeException {
    private static final long serialVersionUID = 1;
  }

  private static final ProgressListener THROWS = (phase, done, total) -> {
    throw new Mine();
  };

  @Test
  void whatAListenerThrowsComesOut(@TempDir Path folder) {
    assertThrows(Mine.class, () -> Model.open(Models.MOE, ModelOptions.create().progress(THROWS)));
    assertThrows(Mine.class, () -> Verification.run(Models.MOE, THROWS, null));
    assertThrows(Mine.class,
        () -> Checkpoints.quantize(Models.MOE, folder.resolve("q8"), null, WriterOptions.create().progress(THROWS)));
    assertFalse(Files.exists(folder.resolve("q8")));
    try (Model model = Models.open();
         Session session = model.session(SessionOptions.create().progress(THROWS).chunk(2))) {
      assertThrows(Mine.class, () -> session.append(new int[] {1, 2, 3, 4}));
      final Generation generation = session.generate("A ship");
      assertThrows(Mine.class, generation::next);
      session.setProgress(null);
      assertTrue(generation.next().token() >= 0);
    }
  }

  /** Also where there is nothing left to cancel. */
  @Test
  void theLastNewsOfOpening() {
    final long[] last = {0};
    Model.open(Models.MOE, ModelOptions.create().progress((phase, done, total) -> ++last[0] > 0)).close();
    for (long n = 1; n <= last[0]; n++) {
      final long[] heard = {0, n};
      assertThrows(Mine.class, () -> Model.open(Models.MOE, ModelOptions.create().progress((phase, done, total) -> {
        if (++heard[0] == heard[1]) throw new Mine();
        return true;
      })));
    }
  }

  @Test
  void whatALogThrowsComesOut() {
    final LogSink sink = (level, message) -> {
      throw new Mine();
    };
    try (FinermoeRuntime runtime = FinermoeRuntime.create(RuntimeOptions.create().log(sink))) {
      assertThrows(Mine.class, () -> {
        try (Model model = Model.open(Models.MOE, ModelOptions.create().runtime(runtime));
             Session session = model.session()) {
          session.append(new int[] {1});
        }
      });
    }
  }

  private static float[] logits(Executor executor) {
    try (FinermoeRuntime runtime = FinermoeRuntime.create(RuntimeOptions.create().executor(executor, 4));
         Model model = Model.open(Models.MOE, ModelOptions.create().runtime(runtime));
         Session session = model.session()) {
      return session.append(new int[] {1, 2, 3}, Logits.LAST)[0];
    }
  }

  @Test
  void anyExecutorGivesTheSame() {
    final float[] expected;
    try (Model model = Models.open(); Session session = model.session()) {
      expected = session.append(new int[] {1, 2, 3}, Logits.LAST)[0];
    }
    final ExecutorService threads = Executors.newFixedThreadPool(3);
    try {
      assertArrayEquals(expected, logits(threads));
    } finally {
      threads.shutdown();
    }
    assertArrayEquals(expected, logits(Runnable::run));
    assertArrayEquals(expected, logits(task -> new Thread(task).start()));
    assertArrayEquals(expected, logits(task -> { })); // one that has no thread for it
    assertArrayEquals(expected, logits(task -> {
      throw new RejectedExecutionException();
    }));
    final List<Runnable> late = new ArrayList<>();
    assertArrayEquals(expected, logits(late::add));
    late.forEach(Runnable::run); // when nothing is left to do
  }

  @Test
  void whatAnExecutorThrowsComesOut() {
    final Mine mine = new Mine();
    assertSame(mine, assertThrows(Mine.class, () -> logits(task -> {
      throw mine;
    })));
  }

  @Test
  void progressCancels() {
    final FinermoeException error = assertThrows(FinermoeException.class,
        () -> Model.open(Models.MOE, ModelOptions.create().verify(true).progress((phase, done, total) -> false)));
    assertEquals(ErrorCode.CANCELLED, error.code());
    assertEquals("FINERMOE_ERROR_CANCELLED", error.name());
  }
}
