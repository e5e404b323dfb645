package conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import finermoe.Event;
import finermoe.Generation;
import finermoe.GenerationInfo;
import finermoe.GenerationOptions;
import finermoe.Model;
import finermoe.Sampler;
import finermoe.Session;
import finermoe.TokenLogprob;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Kinds of rows: one request. */
final class GenerationRows {
  private GenerationRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("generate", GenerationRows::generate);
    behaviours.put("info", GenerationRows::info);
    behaviours.put("options_info", row -> ModelRows.fields(
        Row.options(GenerationOptions.of(row.model()), row.json.getAsJsonObject("options")).info()));
    behaviours.put("hook", GenerationRows::hook);
    behaviours.put("append_in_the_middle", GenerationRows::appendInTheMiddle);
    behaviours.put("finish", GenerationRows::finish);
    behaviours.put("resume", GenerationRows::resume);
    behaviours.put("continue", GenerationRows::goOn);
    behaviours.put("sampler", GenerationRows::sampler);
  }

  private static Map<String, Object> generate(Row row) {
    final List<Integer> tokens = new ArrayList<>();
    final List<Float> logprobs = new ArrayList<>();
    final List<List<Integer>> top = new ArrayList<>();
    final StringBuilder text = new StringBuilder();
    String finish = "none";
    for (Event event : row.start(row.session())) {
      text.append(event.text());
      finish = Row.lower(event.finishReason());
      if (event.token() < 0) continue;
      tokens.add(event.token());
      logprobs.add(event.logprob());
      top.add(event.top().stream().map(TokenLogprob::token).toList());
    }
    return Map.of("tokens", tokens, "text", text.toString(), "finish_reason", finish, "logprobs", logprobs, "top", top);
  }

  private static Map<String, Object> info(Row row) {
    final Generation generation = row.start(row.session());
    generation.text();
    final GenerationInfo info = generation.info();
    return Map.of("n_prompt", info.nPrompt(), "n_generated", info.nGenerated(), "n_kept", info.nKept(), "n_drafted",
        info.nDrafted(), "n_accepted", info.nAccepted(), "finish_reason",
        Row.lower(info.finishReason()));
  }

  private static Map<String, Object> hook(Row row) {
    final Generation generation = row.start(row.session());
    final List<Integer> tokens = new ArrayList<>();
    while (true) {
      generation.prepare();
      final float[] logits = generation.logits();
      logits[Row.argmax(logits)] = Float.NEGATIVE_INFINITY;
      generation.setLogits(logits);
      final Event event = generation.next();
      tokens.add(event.token());
      if (Row.isLast(event)) return Map.of("tokens", tokens);
    }
  }

  private static Map<String, Object> appendInTheMiddle(Row row) {
    final Generation generation = row.start(row.session());
    final List<Integer> tokens = new ArrayList<>();
    final StringBuilder text = new StringBuilder();
    for (int i = 0;; i++) {
      if (i == row.number("after")) generation.append(row.ids("insert"));
      final Event event = generation.next();
      tokens.add(event.token());
      text.append(event.text());
      if (Row.isLast(event)) return Map.of("tokens", tokens, "text", text.toString());
    }
  }

  private static Map<String, Object> finish(Row row) {
    final Generation generation = row.start(row.session());
    final StringBuilder text = new StringBuilder();
    for (int i = 0; i < row.number("after"); i++) text.append(generation.next().text());
    final Event event = generation.finish();
    return Map.of("text", text + event.text(), "finish_reason", Row.lower(event.finishReason()));
  }

  private static Map<String, Object> resume(Row row) {
    final List<Event> events = new ArrayList<>();
    final byte[] savedSession;
    final byte[] savedRequest;
    try (Model model = row.model(); Session session = row.session(model); Generation generation = row.start(session)) {
      for (int i = 0; i < row.number("after"); i++) events.add(generation.next());
      savedSession = session.save();
      savedRequest = generation.save();
    }
    final Session session = row.session();
    session.restore(savedSession);
    final Generation generation = session.resume(savedRequest);
    if (row.has("draft")) {
      final JsonElement draft = row.json.get("draft");
      generation.draft(Row.draftModel(draft), Row.draftTokens(draft));
    }
    for (Event event : generation) events.add(event);
    return Map.of("tokens", events.stream().map(Event::token).filter(token -> token >= 0).toList(), "text",
        events.stream().map(Event::text).collect(Collectors.joining()));
  }

  private static Map<String, Object> goOn(Row row) {
    final Session session = row.session();
    final String first = row.start(session).text();
    final JsonObject more = new JsonObject();
    more.add("prompt", row.json.get("more"));
    more.add("options", row.json.get("options"));
    more.addProperty("no_special_tokens", true);
    return Map.of("texts", List.of(first, row.start(session, more).text()));
  }

  private static Map<String, Object> sampler(Row row) {
    final GenerationOptions options = Row.options(GenerationOptions.create(), row.json.getAsJsonObject("options"));
    final List<JsonElement> given = row.json.getAsJsonArray("logits").asList();
    final float[] logits = new float[given.size()];
    for (int i = 0; i < logits.length; i++) logits[i] = given.get(i).getAsFloat();
    final List<Integer> tokens = new ArrayList<>();
    try (Sampler sampler = Sampler.create(options)) {
      sampler.acceptPrompt(row.ids("prompt"));
      for (int i = 0; i < row.number("n"); i++) {
        final int id = sampler.choose(logits);
        sampler.accept(id);
        tokens.add(id);
      }
    }
    return Map.of("tokens", tokens);
  }
}
