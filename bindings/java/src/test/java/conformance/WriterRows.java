package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import finermoe.Checkpoints;
import finermoe.ConcatProj;
import finermoe.DType;
import finermoe.QuantizeOptions;
import finermoe.RouterInit;
import finermoe.UpcycleOptions;
import finermoe.WriterOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.stream.Stream;

/** Kinds of rows: writers and checks. */
final class WriterRows {
  private WriterRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("upcycle", WriterRows::upcycle);
    behaviours.put("quantize", WriterRows::quantize);
    behaviours.put("synthesize", WriterRows::synthesize);
    behaviours.put("verify", WriterRows::verify);
    behaviours.put("writer_progress", WriterRows::progress);
    behaviours.put("writer_cancel", WriterRows::cancel);
    behaviours.put("writer_exists", WriterRows::exists);
  }

  private static WriterOptions writer(Row row) {
    final WriterOptions options = WriterOptions.create();
    return row.has("seed") ? options.seed(row.json.get("seed").getAsLong()) : options;
  }

  private static DType dtype(String name) {
    return name.equals("source") ? null : DType.valueOf(name.toUpperCase(Locale.ROOT));
  }

  private static Map<String, Object> sha256(Path folder) throws Exception {
    final byte[] bytes = Files.readAllBytes(folder.resolve("model.safetensors"));
    return Map.of("sha256", HexFormat.of().formatHex(MessageDigest.getInstance("SHA-256").digest(bytes)));
  }

  private static long size(JsonObject options, String name) {
    return options.has(name) ? options.get(name).getAsLong() : 0;
  }

  private static Map<String, Object> upcycle(Row row) throws Exception {
    final JsonObject set = row.json.getAsJsonObject("options");
    final UpcycleOptions options = UpcycleOptions.preset(row.text("preset")).shape(size(set, "g_i"), size(set, "r_i"),
        size(set, "g_o"), size(set, "r_o"), size(set, "t_i"));
    if (set.has("shared_expert")) options.sharedExpert(set.get("shared_expert").getAsBoolean());
    if (set.has("concat_proj")) options.concatProj(ConcatProj.valueOf(upper(set, "concat_proj")));
    if (set.has("separate_router")) options.separateRouter(set.get("separate_router").getAsBoolean());
    if (set.has("down_scale")) options.downScale(set.get("down_scale").getAsDouble());
    if (set.has("drop_ratio")) options.dropRatio(set.get("drop_ratio").getAsDouble());
    if (set.has("router_init")) options.routerInit(RouterInit.valueOf(upper(set, "router_init")));
    final Path out = row.folder().resolve("out");
    Checkpoints.upcycle(row.path(), out, options, writer(row));
    return sha256(out);
  }

  private static String upper(JsonObject options, String name) {
    return options.get(name).getAsString().toUpperCase(Locale.ROOT);
  }

  private static void quantizeTo(Path out, Row row, WriterOptions writer) {
    final QuantizeOptions options = QuantizeOptions.of(dtype(row.text("dtype")));
    if (row.has("overrides")) {
      for (JsonElement element : row.json.getAsJsonArray("overrides")) {
        final JsonArray pair = element.getAsJsonArray();
        options.override(pair.get(0).getAsString(), dtype(pair.get(1).getAsString()));
      }
    }
    Checkpoints.quantize(row.path(), out, options, writer);
  }

  private static Map<String, Object> quantize(Row row) throws Exception {
    final Path out = row.folder().resolve("out");
    quantizeTo(out, row, null);
    return sha256(out);
  }

  private static Map<String, Object> synthesize(Row row) throws Exception {
    final Path out = row.folder().resolve("out");
    Checkpoints.synthesize(row.path(), out, dtype(row.text("dtype")), writer(row));
    return sha256(out);
  }

  private static Map<String, Object> verify(Row row) {
    return Map.of("files", Checkpoints.verify(row.path()).stream()
        .map(file -> List.of(file.name(), file.nTensors(), file.nNan(), file.nInfinite(), file.sha256())).toList());
  }

  private static Map<String, Object> progress(Row row) throws Exception {
    final Progress progress = new Progress();
    quantizeTo(row.folder().resolve("out"), row, WriterOptions.create().progress(progress));
    return progress.result();
  }

  private static Map<String, Object> cancel(Row row) throws Exception {
    final Path folder = row.folder();
    final WriterOptions writer = WriterOptions.create().progress((phase, done, total) -> false);
    final String code = Row.codeOf(() -> quantizeTo(folder.resolve("out"), row, writer));
    try (Stream<Path> left = Files.list(folder)) {
      return Map.of("code", code, "left", left.map(file -> file.getFileName().toString()).toList());
    }
  }

  private static Map<String, Object> exists(Row row) throws Exception {
    final Path out = row.folder().resolve("out");
    quantizeTo(out, row, null);
    final String code = Row.codeOf(() -> quantizeTo(out, row, null));
    quantizeTo(out, row, WriterOptions.create().overwrite(true));
    return Map.of("code", code, "replaced", true);
  }
}
