package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import java.lang.reflect.Method;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import org.junit.jupiter.api.Test;

/** Threads of any kind. */
class ThreadsTest {
  /** Thread.startVirtualThread, which came with Java 21. */
  private static Thread startVirtual(Runnable task) throws Exception {
    Method start;
    try {
      start = Thread.class.getMethod("startVirtualThread", Runnable.class);
    } catch (NoSuchMethodException older) {
      start = null;
    }
    assumeTrue(start != null && Runtime.version().feature() >= 21, "virtual threads: not in Java "
        + Runtime.version().feature());
    return (Thread) start.invoke(null, task);
  }

  @Test
  void virtualThreads() throws Exception {
    try (Model model = Models.open()) {
      final GenerationOptions options = GenerationOptions.of(model).maxTokens(6);
      final String expected = model.generate("A ship", options);
      final List<String> texts = Collections.synchronizedList(new ArrayList<>());
      final List<Thread> threads = new ArrayList<>();
      for (int i = 0; i < 32; i++) threads.add(startVirtual(() -> texts.add(model.generate("A ship", options))));
      for (Thread thread : threads) thread.join();
      assertEquals(Collections.nCopies(32, expected), texts);

      final List<ErrorCode> codes = Collections.synchronizedList(new ArrayList<>());
      final Thread endless = startVirtual(() -> {
        try {
          model.generate("A ship", Models.endless(model));
        } catch (FinermoeException error) {
          codes.add(error.code());
        }
      });
      endless.interrupt();
      endless.join();
      assertEquals(List.of(ErrorCode.CANCELLED), codes);
    }
  }

  @Test
  void objectsForOneThreadMakeOthersWait() throws Exception {
    try (Tokenizer tokenizer = Tokenizer.open(Models.MOE); Chat chat = Chat.of();
         Decoder decoder = tokenizer.decoder()) {
      final List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < 4; t++) {
        final Thread thread = new Thread(() -> {
          for (int i = 0; i < 500; i++) {
            chat.add(Message.user("text"));
            decoder.push(i);
          }
        });
        thread.start();
        threads.add(thread);
      }
      for (Thread thread : threads) thread.join();
      assertEquals(2000, chat.size());
    }
  }

  /** One that comes while another is inside is told so, and nothing is mixed up. */
  @Test
  void aGenerationIsForOneThread() throws Exception {
    try (Model model = Models.open(); Session session = model.session(); Generation generation =
        session.generate("A ship", Models.endless(model).maxTokens(300).topLogprobs(5))) {
      final List<Event> events = Collections.synchronizedList(new ArrayList<>());
      final List<Thread> threads = new ArrayList<>();
      for (int t = 0; t < 4; t++) {
        final Thread thread = new Thread(() -> {
          while (true) {
            try {
              final Event event = generation.next();
              if (event.token() >= 0) events.add(event);
              if (event.finishReason() != FinishReason.NONE) return;
            } catch (FinermoeException error) {
              if (error.code() != ErrorCode.BUSY) throw error;
            }
          }
        });
        thread.start();
        threads.add(thread);
      }
      for (Thread thread : threads) thread.join();
      assertEquals(300, events.size());
      for (Event event : events) assertEquals(5, event.top().size());
    }
  }
}
