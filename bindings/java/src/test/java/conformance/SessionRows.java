package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import finermoe.Hidden;
import finermoe.Logits;
import finermoe.Model;
import finermoe.Scores;
import finermoe.Session;
import finermoe.Trace;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/** Kinds of rows: sessions and traces. */
final class SessionRows {
  private SessionRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("logits", SessionRows::logits);
    behaviours.put("hidden", SessionRows::hidden);
    behaviours.put("score", SessionRows::score);
    behaviours.put("session", SessionRows::session);
    behaviours.put("session_info", SessionRows::sessionInfo);
    behaviours.put("routes", SessionRows::routes);
  }

  private static float[] columns(Row row, float[] values) {
    final int[] columns = row.ids("columns");
    final float[] chosen = new float[columns.length];
    for (int i = 0; i < columns.length; i++) chosen[i] = values[columns[i]];
    return chosen;
  }

  private static Map<String, Object> logits(Row row) {
    final Session session = row.session();
    final long n = row.json.get("keep").isJsonArray() ? session.appendRows(row.ids("ids"), row.longs("keep"), null)
        : session.appendRows(row.ids("ids"), row.text("keep").equals("all") ? Logits.ALL : Logits.LAST, null);
    final List<float[]> values = new ArrayList<>();
    final List<Integer> likeliest = new ArrayList<>();
    for (long i = 0; i < n; i++) {
      final float[] kept = session.logits(i);
      values.add(columns(row, kept));
      likeliest.add(Row.argmax(kept));
    }
    return Map.of("values", values, "argmax", likeliest);
  }

  private static Map<String, Object> hidden(Row row) {
    final Session session =
        row.keep(row.model().session(row.sessionOptions().hidden(row.flag("only") ? Hidden.ONLY : Hidden.KEEP)));
    final long nLogits = session.appendRows(row.ids("ids"), row.longs("rows"), null);
    final List<float[]> values = new ArrayList<>();
    for (long i = 0; i < row.longs("rows").length; i++) values.add(columns(row, session.hidden(i)));
    return Map.of("values", values, "n_logits", nLogits);
  }

  private static Map<String, Object> score(Row row) {
    final Scores scores = row.session().score(row.ids("ids"));
    final List<Float> logprobs = new ArrayList<>();
    for (float logprob : scores.logprobs()) logprobs.add(Float.isNaN(logprob) ? null : logprob);
    return Map.of("logprobs", logprobs, "likeliest", scores.likeliest());
  }

  /** A session that steps are done on, with what they saved. */
  private static final class Stage {
    private final Row row;
    private final Path file;
    private Session session;
    private byte[] memory;

    Stage(Row row) throws Exception {
      this.row = row;
      file = row.folder().resolve("session");
      session = row.session();
    }

    Object step(JsonArray step) {
      switch (step.get(0).getAsString()) {
        case "generate" -> {
          return row.start(session, step.get(1).getAsJsonObject()).text();
        }
        case "keep_prefix" -> {
          return List.of(session.keepPrefix(Row.ids(step.get(1))));
        }
        case "append" -> session.append(Row.ids(step.get(1)));
        case "truncate" -> session.truncate(step.get(1).getAsLong());
        case "remove" -> session.remove(step.get(1).getAsLong(), step.get(2).getAsLong());
        case "set_context_length" -> session.setContextLength(step.get(1).getAsLong());
        case "reset" -> session.reset();
        case "fork" -> session = row.keep(session.fork());
        case "save" -> session.save(file);
        case "restore" -> session.restore(file);
        case "save_memory" -> memory = session.save();
        case "restore_memory" -> session.restore(memory);
        default -> throw new IllegalArgumentException("no such step: " + step);
      }
      return session.length();
    }
  }

  private static Map<String, Object> session(Row row) throws Exception {
    final Stage stage = new Stage(row);
    final List<Object> results = new ArrayList<>();
    for (JsonElement step : row.json.getAsJsonArray("steps")) results.add(stage.step(step.getAsJsonArray()));
    final int[] tokens = stage.session.tokens();
    final int last = tokens.length == 0 ? 0 : tokens[tokens.length - 1];
    final float[][] logits = stage.session.append(new int[] {last}, Logits.LAST);
    return Map.of("results", results, "tokens", tokens, "argmax", Row.argmax(logits[0]));
  }

  private static Map<String, Object> sessionInfo(Row row) throws Exception {
    final Session session = row.session();
    session.appendRows(row.ids("ids"), Logits.LAST, null);
    return ModelRows.fields(session.info());
  }

  private static Map<String, Object> routes(Row row) {
    final Model model = row.model();
    final Session session = row.session(model);
    final Trace trace = row.keep(session.trace());
    session.append(row.ids("ids"));
    final long layer = row.number("moe_layer");
    final long[] usage = trace.usage(layer);
    final Map<String, Object> found = new HashMap<>();
    found.put("layers", trace.layers());
    found.put("positions", trace.positions());
    found.put("experts", trace.experts(layer));
    found.put("weights", trace.weights(layer));
    found.put("groups", trace.groups(layer));
    found.put("usage", List.of(Arrays.stream(usage).sum(), Arrays.stream(usage).max().getAsLong()));
    found.put("balance_loss", trace.balanceLoss(layer));
    found.put("logits_argmax", Arrays.stream(trace.logits(layer)).map(Row::argmax).toList());
    return found;
  }
}
