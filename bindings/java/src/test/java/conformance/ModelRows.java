package conformance;

import finermoe.Config;
import finermoe.Finermoe;
import finermoe.FinermoeRuntime;
import finermoe.LogLevel;
import finermoe.Logits;
import finermoe.Model;
import finermoe.ModelOptions;
import finermoe.Operation;
import finermoe.Plan;
import finermoe.PlanOptions;
import finermoe.RuntimeInfo;
import finermoe.RuntimeOptions;
import finermoe.Session;
import java.io.FileInputStream;
import java.lang.reflect.RecordComponent;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.atomic.AtomicLong;
import java.util.stream.Stream;

/** Kinds of rows: models, runtimes, plans. */
final class ModelRows {
  private ModelRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("config", row -> fields(config(row).info()));
    behaviours.put("config_json", ModelRows::configJson);
    behaviours.put("plan", ModelRows::plan);
    behaviours.put("system", ModelRows::system);
    behaviours.put("runtime", ModelRows::runtime);
    behaviours.put("open_memory", ModelRows::openMemory);
    behaviours.put("open_fd", ModelRows::openDescriptor);
    behaviours.put("expert_cache", row -> fields(row.model().expertCache()));
    behaviours.put("expert_similarity",
        row -> Map.of("similarity", row.model().expertSimilarity(row.number("layer"))));
    behaviours.put("executor", ModelRows::executor);
    behaviours.put("log", ModelRows::log);
    behaviours.put("load_progress", ModelRows::loadProgress);
  }

  /** A record's components by their names in C; an enumerator as its number. */
  static Map<String, Object> fields(Record info) throws ReflectiveOperationException {
    final Map<String, Object> fields = new HashMap<>();
    for (RecordComponent component : info.getClass().getRecordComponents()) {
      final Object value = component.getAccessor().invoke(info);
      final String name = component.getName().replaceAll("([A-Z])", "_$1").toLowerCase(Locale.ROOT);
      fields.put(name, value instanceof Enum<?> one ? (Object) one.ordinal() : value);
    }
    return fields;
  }

  private static Config config(Row row) {
    return row.keep(Config.open(row.path()));
  }

  private static Map<String, Object> configJson(Row row) throws Exception {
    final byte[] json = config(row).json();
    if (!Arrays.equals(json, Files.readAllBytes(row.path().resolve("config.json")))) {
      throw new IllegalArgumentException("not the bytes of config.json");
    }
    return Map.of("bytes", json.length);
  }

  private static Map<String, Object> plan(Row row) throws Exception {
    final PlanOptions options = PlanOptions.create().session(row.sessionOptions()).sessions(row.number("sessions"))
        .threads(row.number("threads"));
    final Plan plan = config(row).plan(options);
    return fields(plan);
  }

  private static Map<String, Object> system(Row row) {
    return Map.of("devices", Finermoe.devices().get(0).name(),
        "kernels_known",
        Set.of("portable", "avx2", "avx2-vnni", "avx512", "amx").contains(Finermoe.system().kernels()));
  }

  private static Set<String> operationsWithCalls(FinermoeRuntime runtime) {
    final Set<String> names = new TreeSet<>();
    for (Operation operation : runtime.operations()) {
      if (operation.nCalls() > 0) names.add(operation.name());
    }
    return names;
  }

  private static Map<String, Object> runtime(Row row) {
    final FinermoeRuntime runtime = row.keep(FinermoeRuntime.create(RuntimeOptions.create()
        .threads(row.number("threads")).memoryLimit(row.number("memory_limit")).profile(row.flag("profile"))));
    final Model model = row.keep(Model.open(row.path(), ModelOptions.create().runtime(runtime)));
    row.session(model).append(row.ids("ids"));
    final RuntimeInfo info = runtime.info();
    final Set<String> operations = operationsWithCalls(runtime);
    runtime.resetProfile();
    return Map.of("n_threads", info.nThreads(), "memory_limit", info.memoryLimit(), "device", info.device(),
        "uses_blas", info.usesBlas(), "blas", info.blas(),
        "operations", operations, "calls_after_reset", operationsWithCalls(runtime).size());
  }

  private static Path singleFile(Row row) throws Exception {
    final Path path = row.folder().resolve("q8.safetensors");
    finermoe.Checkpoints.quantize(row.path(), path, null, null);
    return path;
  }

  private static Map<String, Object> openMemory(Row row) throws Exception {
    final Model model = row.keep(Model.open(ByteBuffer.wrap(Files.readAllBytes(singleFile(row))), null));
    return Map.of("text", row.start(row.session(model)).text());
  }

  private static Map<String, Object> openDescriptor(Row row) throws Exception {
    final Model model;
    try (FileInputStream file = new FileInputStream(singleFile(row).toFile())) {
      model = row.keep(Model.open(file.getFD(), null));
    }
    return Map.of("text", row.start(row.session(model)).text());
  }

  private static Map<String, Object> executor(Row row) {
    final AtomicLong tasks = new AtomicLong();
    final ExecutorService threads = Executors.newFixedThreadPool(2);
    final RuntimeOptions options = RuntimeOptions.create().executor(task -> {
      tasks.incrementAndGet();
      threads.execute(task);
    }, 2);
    try (FinermoeRuntime runtime = FinermoeRuntime.create(options);
         Model model = Model.open(row.path(), ModelOptions.create().runtime(runtime));
         Session session = model.session()) {
      final float[][] logits = session.append(row.ids("ids"), Logits.LAST);
      return Map.of("argmax", Row.argmax(logits[0]), "tasks_ran", tasks.get() > 0);
    } finally {
      threads.shutdown();
    }
  }

  private static Map<String, Object> log(Row row) throws Exception {
    final Path folder = row.folder();
    try (Stream<Path> files = Files.list(row.path())) {
      for (Path file : files.toList()) Files.copy(file, folder.resolve(file.getFileName()));
    }
    Files.writeString(folder.resolve("tokenizer.json"), "{");
    final Set<Integer> levels = new TreeSet<>();
    final FinermoeRuntime runtime = row.keep(FinermoeRuntime.create(
        RuntimeOptions.create().log((LogLevel level, String message) -> levels.add(level.ordinal()))));
    final Model model = row.keep(Model.open(folder, ModelOptions.create().runtime(runtime)));
    row.start(row.session(model)).next();
    return Map.of("levels", levels);
  }

  private static Map<String, Object> loadProgress(Row row) {
    final Progress progress = new Progress();
    Model.open(row.path(), ModelOptions.create().verify(true).progress(progress)).close();
    return progress.result();
  }
}
