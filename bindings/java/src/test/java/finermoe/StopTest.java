package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

/** Interrupts and cancels. */
@Timeout(60)
class StopTest {
  @AfterEach
  void nobodyIsLeftInterrupted() {
    Thread.interrupted();
  }

  private static void interruptAfter(long milliseconds) {
    final Thread caller = Thread.currentThread();
    new Thread(() -> {
      try {
        TimeUnit.MILLISECONDS.sleep(milliseconds);
      } catch (InterruptedException error) {
        throw new AssertionError(error);
      }
      caller.interrupt();
    }).start();
  }

  private static void assertCancelled(Runnable call) {
    assertEquals(ErrorCode.CANCELLED, assertThrows(FinermoeException.class, call::run).code());
  }

  @Test
  void anInterruptEndsALongPrefillAndStays() {
    try (Model model = Models.open();
         Session session = model.session(SessionOptions.create().contextLength(2048).chunk(2000))) {
      final long begin = System.nanoTime();
      session.append(Models.longPrompt());
      final long whole = System.nanoTime() - begin;
      session.reset();
      final Generation generation = session.generate(Models.longPrompt(), Models.endless(model).maxTokens(3));
      interruptAfter(TimeUnit.NANOSECONDS.toMillis(whole / 10));
      final long interrupted = System.nanoTime();
      assertCancelled(generation::next);
      assertTrue(System.nanoTime() - interrupted < whole * 3 / 4);
      assertTrue(Thread.currentThread().isInterrupted());
      assertCancelled(() -> session.append(new int[] {1})); // as long as it is
      assertTrue(Thread.interrupted());
      generation.next(); // and goes on
      assertTrue(session.length() >= 1);
    }
  }

  @Test
  void anInterruptEndsDecodingAndTheTextIsTheSame() {
    try (Model model = Models.open(); Session session = model.session()) {
      final GenerationOptions options = Models.endless(model).maxTokens(200);
      final String whole = model.generate("A ship", options);
      final StringBuilder text = new StringBuilder();
      try (Generation generation = session.generate("A ship", options)) {
        interruptAfter(10);
        assertCancelled(() -> generation.forEach(event -> text.append(event.text())));
        assertTrue(Thread.interrupted());
        text.append(generation.text());
      }
      assertEquals(whole, text.toString());
    }
  }

  @Test
  void anInterruptEndsABatch() {
    try (Model model = Models.open(); Batch batch = model.batch()) {
      batch.add("A ship", 1, Models.endless(model));
      interruptAfter(10);
      assertCancelled(() -> batch.forEach(item -> { }));
      assertTrue(Thread.interrupted());
      assertEquals(1, batch.next().tag());
    }
  }

  @Test
  void cancelEndsOneCall() {
    try (Model model = Models.open(); Session session = model.session()) {
      final Generation generation = session.generate("A ship");
      generation.cancel();
      assertCancelled(generation::next);
      assertTrue(generation.next().token() >= 0);
      generation.close();
      generation.cancel();
      try (Batch batch = model.batch()) {
        batch.add("A ship", 1, null);
        batch.cancel();
        assertCancelled(batch::next);
        assertEquals(1, batch.next().tag());
      }
    }
  }

  @Test
  void aFlagOfTheHostsStays() throws Exception {
    try (Model model = Models.open(); Session session = model.session(); Cancel cancel = Cancel.create();
         Generation generation = session.generate("A ship").cancelledBy(cancel)) {
      cancel.request();
      assertTrue(cancel.isRequested());
      assertCancelled(generation::next);
      assertCancelled(generation::next);
      assertCancelled(() -> session.append(new int[] {1}, Logits.LAST, cancel));
      assertCancelled(() -> session.score(new int[] {1}, cancel));
      assertCancelled(() -> model.expertSimilarity(0, cancel));
      assertCancelled(() -> Verification.run(Models.MOE, null, cancel));
      assertCancelled(() -> Model.open(Models.MOE, ModelOptions.create().verify(true).cancel(cancel)));
      cancel.reset();
      assertFalse(cancel.isRequested());
      assertTrue(generation.next().token() >= 0);
      final Thread thread = new Thread(() -> assertCancelled(() -> {
        while (true) session.append(new int[] {1}, Logits.LAST, cancel);
      }));
      thread.start();
      cancel.request();
      thread.join();
    }
  }

  @Test
  void aCallInACallbackHasAnInterruptOfItsOwn() {
    try (Model model = Models.open(); Session other = model.session();
         Session session = model.session(SessionOptions.create().chunk(1))) {
      session.setProgress((phase, done, total) -> {
        other.append(new int[] {1});
        if (done == 2) Thread.currentThread().interrupt();
        return true;
      });
      assertCancelled(() -> session.append(new int[] {1, 2, 3, 4, 5, 6}));
      assertTrue(Thread.interrupted());
      assertTrue(other.length() >= 2);
    }
  }
}
