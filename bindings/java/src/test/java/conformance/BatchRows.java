package conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import finermoe.Batch;
import finermoe.FinermoeException;
import finermoe.Generation;
import finermoe.Model;
import finermoe.Session;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.function.IntConsumer;

/** Kinds of rows: many requests at once. */
final class BatchRows {
  private BatchRows() {}

  static void add(Map<String, Conformance.Behaviour> behaviours) {
    behaviours.put("batch", BatchRows::batch);
    behaviours.put("batch_error", BatchRows::batchError);
  }

  /** A request in a batch, with its session and what came of it. */
  private static final class Member {
    final JsonObject json;
    final long tag;
    final Session session;
    final Generation generation;
    final StringBuilder text = new StringBuilder();
    String finish = "none";
    FinermoeException error;

    Member(Row row, Model model, JsonObject json) {
      this.json = json;
      tag = json.get("tag").getAsBigInteger().longValue();
      session = row.session(model);
      generation = row.start(session, json).tag(tag);
    }

    boolean isAt(String moment, int nEvents) {
      return json.has(moment) && !json.get(moment).isJsonNull() && json.get(moment).getAsInt() == nEvents;
    }
  }

  private static final class Run {
    final List<Member> members = new ArrayList<>();
    private final Batch batch;

    Run(Row row) {
      final Model model = row.model();
      batch = row.keep(model.batch());
      for (JsonElement member : row.json.getAsJsonArray("members")) {
        members.add(new Member(row, model, member.getAsJsonObject()));
      }
    }

    /** Runs until no member is left; `between` is called before each event with their number so far. */
    void toTheEnd(IntConsumer between) {
      joinAndLeave(0);
      for (int n = 0;; n++) {
        between.accept(n);
        final Batch.Item item = batch.next();
        if (item == null) return;
        final Member from = withTag(item.tag());
        from.text.append(item.event().text());
        from.error = item.error();
        if (Row.isLast(item.event())) from.finish = Row.lower(item.event().finishReason());
        joinAndLeave(n + 1);
      }
    }

    Member withTag(long tag) {
      return members.stream().filter(member -> member.tag == tag).findFirst().orElseThrow();
    }

    private void joinAndLeave(int nEvents) {
      for (Member member : members) {
        if (member.json.has("join_after") ? member.isAt("join_after", nEvents) : nEvents == 0) {
          batch.add(member.generation);
        }
        if (member.isAt("leave_after", nEvents)) batch.remove(member.generation);
      }
    }
  }

  private static Map<String, Object> batch(Row row) {
    final Run run = new Run(row);
    run.toTheEnd(n -> { });
    final Map<String, Object> texts = new HashMap<>();
    final Map<String, Object> finish = new HashMap<>();
    for (Member member : run.members) {
      finish.put(Long.toUnsignedString(member.tag), member.finish);
      if (!member.finish.equals("none")) texts.put(Long.toUnsignedString(member.tag), member.text.toString());
    }
    return Map.of("texts", texts, "finish", finish);
  }

  private static Map<String, Object> batchError(Row row) {
    final Run run = new Run(row);
    final Member failing = run.withTag(row.number("closes"));
    run.toTheEnd(n -> {
      if (n == row.number("close_after")) failing.session.close();
    });
    final Map<String, Object> texts = new HashMap<>();
    for (Member member : run.members) {
      if (member != failing) texts.put(Long.toUnsignedString(member.tag), member.text.toString());
    }
    return Map.of("texts", texts, "code", failing.error == null ? "FINERMOE_OK" : failing.error.name());
  }
}
