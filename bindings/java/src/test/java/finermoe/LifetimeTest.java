package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.function.Function;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import org.junit.jupiter.api.io.TempDir;

/** Closing in any order, twice, while another thread is inside, or not at all. */
class LifetimeTest {
  /** One of each, with something that uses it. */
  private static Map<NativeObject, Executable> oneOfEach() {
    final Map<NativeObject, Executable> objects = new LinkedHashMap<>();
    final FinermoeRuntime runtime = FinermoeRuntime.create(RuntimeOptions.create().threads(1));
    final ModelOptions modelOptions = ModelOptions.create().runtime(runtime);
    final Model model = Model.open(Models.MOE, modelOptions);
    final Config config = Config.open(Models.MOE);
    final Tokenizer tokenizer = Tokenizer.open(Models.MOE);
    final Decoder decoder = tokenizer.decoder();
    final Chat chat = Chat.of(Message.user("Hello"));
    final Session session = model.session();
    final Trace trace = session.trace();
    final GenerationOptions options = GenerationOptions.of(model);
    final Generation generation = session.generate("A ship", options);
    final Batch batch = model.batch();
    final Sampler sampler = Sampler.create(options);
    final Cancel cancel = Cancel.create();
    final Verification verification = Verification.run(Models.SMALL, null, null);
    objects.put(runtime, runtime::info);
    objects.put(modelOptions, () -> modelOptions.copy(false));
    objects.put(model, model::session);
    objects.put(config, config::info);
    objects.put(tokenizer, () -> tokenizer.encode("A ship"));
    objects.put(decoder, () -> decoder.push(1));
    objects.put(chat, chat::size);
    objects.put(session, session::length);
    objects.put(trace, trace::info);
    objects.put(options, options::info);
    objects.put(generation, generation::next);
    objects.put(batch, batch::step);
    objects.put(sampler, () -> sampler.accept(1));
    objects.put(cancel, cancel::isRequested);
    objects.put(verification, verification::files);
    return objects;
  }

  @Test
  void anyOrderTwiceAndUseAfterwards() throws Throwable {
    for (int seed = 0; seed < 5; seed++) {
      final Map<NativeObject, Executable> objects = oneOfEach();
      for (Executable use : objects.values()) use.execute();
      final List<NativeObject> order = new ArrayList<>(objects.keySet());
      Collections.shuffle(order, new Random(seed));
      for (NativeObject object : order) object.close();
      for (NativeObject object : order) object.close();
      for (Map.Entry<NativeObject, Executable> object : objects.entrySet()) {
        assertTrue(object.getKey().isClosed());
        final String name = object.getKey().getClass().getSimpleName();
        final Exception error = assertThrows(IllegalStateException.class, object.getValue(), name);
        assertEquals("this " + name + " is closed", error.getMessage());
      }
    }
  }

  @Test
  void closingWhileAnotherThreadIsInside() throws Exception {
    for (String what : List.of("generation", "session", "model")) {
      for (boolean inPrefill : new boolean[] {false, true}) {
        try (Model model = Models.open(); Session session = model.session(SessionOptions.create().contextLength(2048));
             Generation generation = inPrefill ? session.generate(Models.longPrompt(), Models.endless(model))
                 : session.generate("A ship", Models.endless(model))) {
          final CountDownLatch started = new CountDownLatch(inPrefill ? 1 : 3);
          final CompletableFuture<Throwable> end = new CompletableFuture<>();
          new Thread(() -> {
            try {
              if (inPrefill) started.countDown();
              for (Event event : generation) {
                assertNotNull(event);
                started.countDown();
              }
              end.complete(null);
            } catch (FinermoeException | IllegalStateException error) {
              end.complete(error);
            }
          }).start();
          started.await();
          if (inPrefill) Thread.sleep(20);
          (what.equals("generation") ? generation : what.equals("session") ? session : model).close();
          final Throwable error = end.get();
          final boolean saysSo = error instanceof IllegalStateException
              || error instanceof FinermoeException failed && failed.code() == ErrorCode.CLOSED;
          assertTrue(saysSo, what + ": " + error);
        }
      }
    }
  }

  /** Threads use and close the same objects, all at once: nothing may crash. */
  @Test
  void everybodyAtOnce() throws Exception {
    for (int round = 0; round < 20; round++) {
      final Map<NativeObject, Executable> objects = oneOfEach();
      final List<Thread> threads = new ArrayList<>();
      final List<Throwable> unexpected = Collections.synchronizedList(new ArrayList<>());
      for (int t = 0; t < 4; t++) {
        final int seed = 4 * round + t;
        threads.add(new Thread(() -> {
          final Random random = new Random(seed);
          final List<NativeObject> order = new ArrayList<>(objects.keySet());
          Collections.shuffle(order, random);
          for (NativeObject object : order) {
            try {
              objects.get(object).execute();
              if (random.nextInt(3) == 0) object.close();
            } catch (FinermoeException | IllegalStateException expected) {
              // Busy, or closed.
            } catch (Throwable error) {
              unexpected.add(error);
            }
          }
        }));
      }
      for (Thread thread : threads) thread.start();
      for (Thread thread : threads) thread.join();
      for (NativeObject object : objects.keySet()) object.close();
      assertEquals(List.of(), unexpected);
    }
  }

  @Test
  void whatNobodyClosesIsFreedWhenItIsCollected() throws Exception {
    try (FinermoeRuntime runtime = FinermoeRuntime.create(RuntimeOptions.create().threads(1));
         Model model = Model.open(Models.MOE, ModelOptions.create().runtime(runtime))) {
      for (int i = 0; i < 10; i++) {
        // A listener that leads back to its session must not keep it.
        final Session session = model.session();
        session.setProgress((phase, done, total) -> !session.isClosed());
        session.generate("A ship").next();
      }
      final long used = runtime.info().memoryUsed();
      for (int i = 0; i < 100 && runtime.info().memoryUsed() > used / 5; i++) {
        System.gc();
        Thread.sleep(20);
      }
      assertTrue(runtime.info().memoryUsed() <= used / 5, used + " bytes, now " + runtime.info().memoryUsed());
    }
  }

  @Test
  void collectingInTheMiddleOfAStream() {
    try (Model model = Models.open()) {
      final Iterable<Event> events = model.session().generate("A ship", Models.endless(model).maxTokens(40));
      int n = 0;
      for (Event event : events) {
        if (++n % 10 == 0) System.gc();
        assertTrue(event.token() >= 0);
      }
      assertEquals(40, n);
    }
  }

  @Test
  void tenThousandCyclesLeaveMemoryFlat(@TempDir Path folder) throws Exception {
    final Path file = folder.resolve("small.safetensors");
    Checkpoints.synthesize(Models.SMALL, file, null, null);
    final byte[] bytes = Files.readAllBytes(file);
    final ByteBuffer data = ByteBuffer.allocateDirect(bytes.length).put(bytes).flip();
    openAndClose(500, options -> Model.open(data, options));
    openAndClose(10, options -> Model.open(Models.SMALL, options));
    final long memory = resident();
    final long descriptors = descriptors();
    openAndClose(10_000, options -> Model.open(data, options));
    openAndClose(200, options -> Model.open(Models.SMALL, options));
    assertTrue(resident() - memory < 24 << 20, "grown by " + (resident() - memory) + " bytes");
    assertTrue(descriptors() <= descriptors + 5, descriptors + " descriptors, now " + descriptors());
  }

  private static void openAndClose(int times, Function<ModelOptions, Model> opened) {
    final int[] ids = {1};
    for (int i = 0; i < times; i++) {
      try (Model model = opened.apply(ModelOptions.create().threads(1));
           Session session = model.session(SessionOptions.create().contextLength(16));
           Generation generation = session.generate(ids, null)) {
        assertEquals(0, generation.info().nGenerated());
      }
    }
  }

  private static long descriptors() throws Exception {
    try (Stream<Path> open = Files.list(Path.of("/proc/self/fd"))) {
      return open.count();
    }
  }

  private static long resident() throws Exception {
    System.gc();
    Thread.sleep(100);
    final String line = Files.readAllLines(Path.of("/proc/self/status")).stream()
        .filter(one -> one.startsWith("VmRSS:")).findFirst().orElseThrow();
    return Long.parseLong(line.replaceAll("\\D", "")) * 1024;
  }
}
