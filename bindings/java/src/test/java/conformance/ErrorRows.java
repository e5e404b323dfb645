package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonObject;
import finermoe.Batch;
import finermoe.Chat;
import finermoe.Checkpoints;
import finermoe.Config;
import finermoe.FinermoeException;
import finermoe.FinermoeRuntime;
import finermoe.GenerationOptions;
import finermoe.Message;
import finermoe.Model;
import finermoe.ModelOptions;
import finermoe.PlanOptions;
import finermoe.RuntimeOptions;
import finermoe.Session;
import finermoe.Tokenizer;
import finermoe.Trace;
import finermoe.TraceKind;
import finermoe.Unnamed;
import finermoe.UpcycleOptions;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HexFormat;
import java.util.Map;

/** Kinds of rows: errors. */
final class ErrorRows {
  private ErrorRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("error", ErrorRows::error);
  }

  private static Map<String, Object> error(Row row) throws Exception {
    try {
      act(row, row.text("do"));
      return Map.of("code", "FINERMOE_OK");
    } catch (FinermoeException error) {
      return Map.of("code", error.name(), "expected", error.expected(), "found", error.found());
    }
  }

  private static void act(Row row, String what) throws Exception {
    switch (what) {
      case "open" -> row.open(row.folder().resolve(row.text("path")));
      case "open_file" -> row.open(Files.write(row.folder().resolve("m.safetensors"), bytes(row)));
      case "config" -> row.keep(Config.parse(row.text("json")));
      case "tokenizer" -> row.keep(Tokenizer.parse(row.text("json"), null));
      case "role" -> row.keep(Chat.of(new Message(row.text("role"), "text")));
      case "quantize_existing" -> {
        final Path out = row.folder();
        Files.writeString(out.resolve("notes.txt"), "mine");
        Checkpoints.quantize(row.path(), out, null, null);
      }
      case "upcycle" -> Checkpoints.upcycle(row.path(), row.folder().resolve("out"),
          UpcycleOptions.preset(null).shape(row.number("g_i"), 0, 0, 0, 0), null);
      case "device" -> open(row, RuntimeOptions.create().device(row.text("device")));
      case "plan_device" -> row.keep(Config.open(row.path())).plan(
          PlanOptions.create().device(null, row.text("device"), row.number("bytes")));
      case "plan_expert_cache" -> row.keep(Config.open(row.path())).plan(
          PlanOptions.create().expertCache(row.number("bytes")));
      case "device_weights" -> row.keep(Model.open(row.path(),
          ModelOptions.create().deviceWeights(row.number("bytes"))));
      case "expert_cache" -> row.keep(Model.open(row.path(),
          ModelOptions.create().expertCache(row.number("bytes"))));
      case "isa" -> open(row, Unnamed.isa(RuntimeOptions.create(), row.number("value")));
      case "blas" -> open(row, RuntimeOptions.create().blas(row.folder().resolve(row.text("path"))));
      case "threads_of_executor" -> open(row, RuntimeOptions.create().executor(Runnable::run, 0));
      case "memory_limit" -> open(row, RuntimeOptions.create().memoryLimit(row.number("bytes")));
      default -> actOnModel(row, what, row.model());
    }
  }

  private static byte[] bytes(Row row) {
    return HexFormat.of().parseHex(row.text("bytes"));
  }

  private static void open(Row row, RuntimeOptions options) {
    final FinermoeRuntime runtime = row.keep(FinermoeRuntime.create(options));
    row.session(row.keep(Model.open(row.path(), ModelOptions.create().runtime(runtime))));
  }

  private static void actOnModel(Row row, String what, Model model) {
    switch (what) {
      case "option" -> {
        final JsonObject option = new JsonObject();
        option.add(row.text("option"), row.json.get("value"));
        Row.options(GenerationOptions.of(model), option);
      }
      case "stop" -> GenerationOptions.of(model).stop(row.text("text"));
      case "encode_without_tokenizer" -> model.tokenizer();
      case "similarity" -> model.expertSimilarity(row.number("layer"));
      case "trace" -> row.keep(Trace.create(model, TraceKind.ROUTES));
      default -> actOnSession(row, what, row.session(model));
    }
  }

  private static void actOnSession(Row row, String what, Session session) {
    switch (what) {
      case "session" -> { }
      case "append" -> session.append(row.ids("ids"));
      case "truncate" -> session.truncate(row.number("length"));
      case "remove" -> session.remove(row.number("begin"), row.number("end"));
      case "logits" -> session.logits(row.number("row"));
      case "generate" -> row.start(session, row.json.getAsJsonObject("request"));
      case "restore" -> session.restore(bytes(row));
      case "chat_without_template" -> {
        final JsonArray none = new JsonArray();
        try (Chat chat = Row.chat(none).add(Message.user("text"))) {
          row.keep(session.chat(chat));
        }
      }
      case "batch_twice" -> {
        final Batch batch = row.keep(session.model().batch());
        batch.add(row.keep(session.generate("A ship")));
        batch.add(row.keep(session.generate("A ship")));
      }
      default -> throw new IllegalArgumentException("no such action: " + what);
    }
  }
}
