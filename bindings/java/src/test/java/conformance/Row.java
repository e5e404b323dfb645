package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import finermoe.Chat;
import finermoe.DType;
import finermoe.Event;
import finermoe.FinermoeException;
import finermoe.FinishReason;
import finermoe.Generation;
import finermoe.GenerationOptions;
import finermoe.Message;
import finermoe.Model;
import finermoe.ModelOptions;
import finermoe.Precision;
import finermoe.Session;
import finermoe.SessionOptions;
import finermoe.TextFlag;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.List;
import java.util.Locale;
import java.util.stream.Stream;

/** A row with its inputs, and what is opened for it. */
final class Row implements AutoCloseable {
  static Path models;
  static Path shapes;

  final JsonObject json;
  private final List<AutoCloseable> opened = new ArrayList<>();
  private Path folder;

  Row(JsonObject json) {
    this.json = json;
  }

  /** Closes what was opened, the last first. */
  @Override
  public void close() throws IOException {
    for (int i = opened.size() - 1; i >= 0; i--) close(opened.get(i));
    if (folder == null) return;
    try (Stream<Path> files = Files.walk(folder)) {
      for (Path file : files.sorted(Comparator.reverseOrder()).toList()) Files.delete(file);
    }
  }

  private static void close(AutoCloseable object) throws IOException {
    try {
      object.close();
    } catch (IOException | RuntimeException error) {
      throw error;
    } catch (Exception error) {
      throw new IOException(error);
    }
  }

  <T extends AutoCloseable> T keep(T object) {
    opened.add(object);
    return object;
  }

  // Inputs

  boolean has(String name) {
    return json.has(name) && !json.get(name).isJsonNull();
  }

  boolean flag(String name) {
    return has(name) && json.get(name).getAsBoolean();
  }

  String text(String name) {
    return text(json, name);
  }

  int number(String name) {
    return json.get(name).getAsInt();
  }

  int[] ids(String name) {
    return ids(json.get(name));
  }

  static int[] ids(JsonElement list) {
    return list.getAsJsonArray().asList().stream().mapToInt(JsonElement::getAsInt).toArray();
  }

  long[] longs(String name) {
    return json.getAsJsonArray(name).asList().stream().mapToLong(JsonElement::getAsLong).toArray();
  }

  /** A text, or its UTF-16 code units where JSON cannot hold it. */
  static String text(JsonObject json, String name) {
    if (!json.has(name + "_utf16")) return json.get(name).getAsString();
    final StringBuilder text = new StringBuilder();
    for (int unit : ids(json.get(name + "_utf16"))) text.append((char) unit);
    return text.toString();
  }

  TextFlag[] flags() {
    return flags(json);
  }

  static TextFlag[] flags(JsonObject json) {
    return Stream.of(TextFlag.values())
        .filter(flag -> json.has(flag.name().toLowerCase(Locale.ROOT)) && json.get(lower(flag)).getAsBoolean())
        .toArray(TextFlag[]::new);
  }

  static String lower(Enum<?> value) {
    return value.name().toLowerCase(Locale.ROOT);
  }

  // What is opened

  Path path() {
    return has("shape") ? shapes.resolve(text("shape"))
        : models.resolve(has("model") ? text("model") : "tiny-wordnet-finermoe");
  }

  /** A new empty folder. */
  Path folder() throws IOException {
    if (folder == null) folder = Files.createTempDirectory("conformance");
    return Files.createTempDirectory(folder, "row");
  }

  Model model() {
    return open(path());
  }

  Model open(Path path) {
    return keep(Model.open(path, ModelOptions.create().threads(2)));
  }

  SessionOptions sessionOptions() {
    final SessionOptions options = SessionOptions.create();
    if (has("context_length")) options.contextLength(json.get("context_length").getAsLong());
    if (has("kv_dtype")) options.kvDtype(DType.valueOf(text("kv_dtype").toUpperCase(Locale.ROOT)));
    if (has("precision")) options.precision(Precision.valueOf(text("precision").toUpperCase(Locale.ROOT)));
    if (has("chunk")) options.chunk(number("chunk"));
    return options;
  }

  Session session(Model model) {
    return keep(model.session(sessionOptions()));
  }

  Session session() {
    return session(model());
  }

  // Requests

  Generation start(Session session) {
    return start(session, json);
  }

  Generation start(Session session, JsonObject request) {
    final GenerationOptions options = options(GenerationOptions.of(session.model()),
        request.has("options") ? request.getAsJsonObject("options") : new JsonObject());
    if (request.has("ids")) return keep(session.generate(ids(request.get("ids")), options));
    if (request.has("messages")) {
      try (Chat chat = chat(request.getAsJsonArray("messages"))) {
        return keep(session.chat(chat, options, flags(request)));
      }
    }
    return keep(session.generate(text(request, "prompt"), options, flags(request)));
  }

  static Chat chat(JsonArray messages) {
    return Chat.of(messages.asList().stream().map(JsonElement::getAsJsonObject)
        .map(message -> new Message(message.get("role").getAsString(), message.get("content").getAsString()))
        .toArray(Message[]::new));
  }

  static GenerationOptions options(GenerationOptions options, JsonObject set) {
    if (set.has("clear_stop_tokens")) options.clearStopTokens();
    set.entrySet().forEach(option -> set(options, option.getKey(), option.getValue()));
    return options;
  }

  static Model draftModel(JsonElement draft) {
    return Model.open(models.resolve(draft.getAsJsonArray().get(0).getAsString()));
  }

  static long draftTokens(JsonElement draft) {
    return draft.getAsJsonArray().get(1).getAsLong();
  }

  private static void set(GenerationOptions options, String name, JsonElement value) {
    switch (name) {
      case "max_tokens" -> options.maxTokens(value.getAsLong());
      case "min_tokens" -> options.minTokens(value.getAsLong());
      case "temperature" -> options.temperature(value.getAsDouble());
      case "top_k" -> options.topK(value.getAsLong());
      case "top_p" -> options.topP(value.getAsDouble());
      case "min_p" -> options.minP(value.getAsDouble());
      case "typical_p" -> options.typicalP(value.getAsDouble());
      case "repetition_penalty" -> options.repetitionPenalty(value.getAsDouble());
      case "frequency_penalty" -> options.frequencyPenalty(value.getAsDouble());
      case "presence_penalty" -> options.presencePenalty(value.getAsDouble());
      case "seed" -> options.seed(value.getAsBigInteger().longValue());
      case "ignore_eos" -> options.ignoreEos(value.getAsBoolean());
      case "top_logprobs" -> options.topLogprobs(value.getAsLong());
      case "show_special" -> options.showSpecial(value.getAsBoolean());
      case "lookup" -> options.lookup(value.getAsLong());
      case "draft" -> options.draft(draftModel(value), draftTokens(value));
      case "logit_bias" -> value.getAsJsonArray().forEach(pair -> options.logitBias(
          pair.getAsJsonArray().get(0).getAsInt(), pair.getAsJsonArray().get(1).getAsFloat()));
      case "banned_tokens" -> value.getAsJsonArray().forEach(id -> options.bannedToken(id.getAsInt()));
      case "stop_tokens" -> value.getAsJsonArray().forEach(id -> options.stopToken(id.getAsInt()));
      case "stop" -> value.getAsJsonArray().forEach(text -> options.stop(text.getAsString()));
      case "clear_stop_tokens" -> { }
      default -> throw new IllegalArgumentException("no such option: " + name);
    }
  }

  /** The name of the code that something ends with; use after close has none of its own in Java. */
  static String codeOf(Runnable action) {
    try {
      action.run();
      return "FINERMOE_OK";
    } catch (FinermoeException error) {
      return error.name();
    } catch (IllegalStateException closed) {
      return "FINERMOE_ERROR_CLOSED";
    }
  }

  static boolean isLast(Event event) {
    return event.finishReason() != FinishReason.NONE;
  }

  static int argmax(float[] values) {
    int best = 0;
    for (int i = 1; i < values.length; i++) {
      if (values[i] > values[best]) best = i;
    }
    return best;
  }
}
