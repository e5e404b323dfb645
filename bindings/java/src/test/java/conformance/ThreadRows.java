package conformance;

import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import finermoe.Batch;
import finermoe.Cancel;
import finermoe.Event;
import finermoe.Generation;
import finermoe.Model;
import finermoe.Session;
import finermoe.SessionOptions;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;

/** Kinds of rows: cancelling, closing, several threads. */
final class ThreadRows {
  private ThreadRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("cancel", ThreadRows::cancel);
    behaviours.put("cancelled_before", ThreadRows::cancelledBefore);
    behaviours.put("close_session", ThreadRows::closeSession);
    behaviours.put("close_model", ThreadRows::closeModel);
    behaviours.put("closed", ThreadRows::closed);
    behaviours.put("close_twice", ThreadRows::closeTwice);
    behaviours.put("two_models", ThreadRows::twoModels);
    behaviours.put("many_sessions", ThreadRows::manySessions);
    behaviours.put("busy", ThreadRows::busy);
  }

  private static void onAnotherThread(Runnable action) {
    final Thread thread = new Thread(action);
    thread.start();
    join(thread);
  }

  private static void join(Thread thread) {
    try {
      thread.join();
    } catch (InterruptedException error) {
      throw new AssertionError(error);
    }
  }

  private static JsonObject endless() {
    final JsonObject options = new JsonObject();
    options.addProperty("max_tokens", 0);
    options.addProperty("ignore_eos", true);
    final JsonObject request = new JsonObject();
    request.addProperty("prompt", "A ship");
    request.add("options", options);
    return request;
  }

  private static Map<String, Object> cancel(Row row) {
    final Cancel cancel = row.keep(Cancel.create());
    final boolean inPrefill = row.text("where").equals("prefill");
    final SessionOptions options = row.sessionOptions();
    if (inPrefill) {
      options.chunk(1).progress((phase, done, total) -> {
        if (done == 3) cancel.request();
        return true;
      });
    }
    final Generation generation = row.start(row.keep(row.model().session(options))).cancelledBy(cancel);
    final StringBuilder text = new StringBuilder();
    final String code = Row.codeOf(() -> {
      for (int events = 0;; events++) {
        if (!inPrefill && events == 3) onAnotherThread(cancel::request);
        text.append(generation.next().text());
      }
    });
    return Map.of("code", code, "text", text + generation.cancelledBy(null).text());
  }

  private static Map<String, Object> cancelledBefore(Row row) {
    final Cancel cancel = row.keep(Cancel.create());
    cancel.request();
    final Generation generation = row.start(row.session()).cancelledBy(cancel);
    final String code = Row.codeOf(generation::next);
    cancel.reset();
    return Map.of("code", code, "text", generation.text());
  }

  /** What a request that would go on and on ends with when `close` is called on another thread after three events. */
  private static String closedWhileRunning(Row row, Session session, Runnable close) {
    final Generation generation = row.start(session, endless());
    final Thread closing = new Thread(close);
    final String code = Row.codeOf(() -> {
      for (int events = 0;; events++) {
        if (events == 3) closing.start();
        if (Row.isLast(generation.next())) return;
      }
    });
    join(closing);
    return code;
  }

  private static String textOn(Row row, Model model) {
    return row.start(row.session(model), row.json.getAsJsonObject("request")).text();
  }

  private static Map<String, Object> closeSession(Row row) {
    final Model model = row.model();
    final Session session = row.session(model);
    final String code = closedWhileRunning(row, session, session::close);
    return Map.of("code", code, "other", textOn(row, model));
  }

  private static Map<String, Object> closeModel(Row row) {
    final Model model = row.model();
    final Model other = row.model();
    final String code = closedWhileRunning(row, row.session(model), model::close);
    return Map.of("code", code, "other", textOn(row, other));
  }

  private static Map<String, Object> closed(Row row) {
    final Model model = row.model();
    final Session session = row.session(model);
    final Generation generation = row.keep(session.generate("A ship"));
    final Batch batch = row.keep(model.batch());
    batch.add(generation);
    return Map.of("code", switch (row.text("object")) {
      case "model" -> {
        model.close();
        yield Row.codeOf(() -> session.append(new int[] {1}));
      }
      case "session" -> {
        session.close();
        yield Row.codeOf(() -> session.append(new int[] {1}));
      }
      case "generation" -> {
        generation.close();
        yield Row.codeOf(generation::next);
      }
      case "batch" -> {
        batch.close();
        yield Row.codeOf(batch::step);
      }
      default -> "no such object";
    });
  }

  private static Map<String, Object> closeTwice(Row row) throws Exception {
    boolean closed = true;
    for (boolean reversed : new boolean[] {false, true}) {
      final Model model = row.model();
      final Session session = row.session(model);
      final Generation generation = session.generate("A ship");
      final Batch batch = model.batch();
      final List<AutoCloseable> objects = new ArrayList<>(List.of(model, session, generation, batch));
      if (reversed) java.util.Collections.reverse(objects);
      for (AutoCloseable object : objects) object.close();
      for (AutoCloseable object : objects) object.close();
      closed &= model.isClosed() && session.isClosed() && generation.isClosed() && batch.isClosed();
    }
    return Map.of("closed", closed);
  }

  private static Map<String, Object> twoModels(Row row) {
    final JsonArray names = row.json.getAsJsonArray("models");
    final List<Generation> generations = new ArrayList<>();
    final List<StringBuilder> texts = new ArrayList<>();
    for (JsonElement name : names) {
      generations.add(row.start(row.session(row.open(Row.models.resolve(name.getAsString())))));
      texts.add(new StringBuilder());
    }
    final boolean[] ended = new boolean[names.size()];
    for (int running = ended.length; running > 0;) {
      for (int i = 0; i < ended.length; i++) {
        if (ended[i]) continue;
        final Event event = generations.get(i).next();
        texts.get(i).append(event.text());
        ended[i] = Row.isLast(event);
        if (ended[i]) running--;
      }
    }
    return Map.of("texts", texts.stream().map(StringBuilder::toString).toList());
  }

  private static Map<String, Object> manySessions(Row row) {
    final int n = row.number("n");
    final Model model = row.model();
    final List<Session> sessions = new ArrayList<>();
    for (int i = 0; i < n; i++) sessions.add(row.session(model));
    final List<Generation> generations = new ArrayList<>();
    for (int i = 0; i < n; i++) {
      final JsonObject request = row.json.deepCopy();
      request.getAsJsonObject("options").addProperty("seed", i);
      generations.add(row.start(sessions.get(i), request));
    }
    final String[] texts = new String[n];
    final List<Thread> threads = new ArrayList<>();
    for (int t = 0; t < 4; t++) {
      final int first = t;
      final Thread thread = new Thread(() -> {
        for (int i = first; i < n; i += 4) texts[i] = generations.get(i).text();
      });
      thread.start();
      threads.add(thread);
    }
    threads.forEach(ThreadRows::join);
    final TreeSet<String> distinct = new TreeSet<>(List.of(texts));
    return Map.of("texts", distinct, "n_distinct", distinct.size());
  }

  private static Map<String, Object> busy(Row row) {
    final Session session = row.session();
    final String[] code = {""};
    // While the session computes, which is when progress is told, a second thread uses it.
    session.setProgress((phase, done, total) -> {
      onAnotherThread(() -> code[0] = Row.codeOf(() -> session.append(new int[] {1})));
      return true;
    });
    row.keep(session.generate("A ship")).next();
    return Map.of("busy", code[0].equals("FINERMOE_ERROR_BUSY"));
  }
}
