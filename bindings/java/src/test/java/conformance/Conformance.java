package conformance;

import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.stream.Stream;

/** Walks the rows of the conformance suite (bindings/conformance/README.md) and prints a line for each. */
public final class Conformance {
  private Conformance() {}

  /** What a kind of row does: gives results by name. */
  interface Behaviour {
    Map<String, Object> run(Row row) throws Exception;
  }

  /** Returns how many rows have failed. */
  static int run(Path folder, PrintStream out) throws IOException {
    final Map<String, Behaviour> behaviours = new HashMap<>();
    TextRows.add(behaviours);
    ModelRows.add(behaviours);
    SessionRows.add(behaviours);
    GenerationRows.add(behaviours);
    BatchRows.add(behaviours);
    ThreadRows.add(behaviours);
    ErrorRows.add(behaviours);
    WriterRows.add(behaviours);
    int failed = 0;
    final List<Path> files;
    try (Stream<Path> listed = Files.list(folder)) {
      files = listed.filter(file -> file.toString().endsWith(".json")).sorted().toList();
    }
    for (Path file : files) {
      final String name = file.getFileName().toString().replace(".json", "");
      for (JsonElement element : JsonParser.parseString(Files.readString(file)).getAsJsonArray()) {
        final JsonObject row = element.getAsJsonObject();
        final String difference = differenceOf(row, behaviours);
        final String result = difference == null ? "ok" : "failed: " + difference;
        out.println(name + "/" + row.get("name").getAsString() + "\t" + result);
        if (difference != null) failed++;
      }
    }
    return failed;
  }

  private static String differenceOf(JsonObject row, Map<String, Behaviour> behaviours) {
    final Behaviour behaviour = behaviours.get(row.get("kind").getAsString());
    if (behaviour == null) return "no such kind: " + row.get("kind").getAsString();
    try (Row opened = new Row(row)) {
      final Map<String, Object> found = behaviour.run(opened);
      for (Map.Entry<String, JsonElement> expected : row.getAsJsonObject("expect").entrySet()) {
        final JsonElement value = Json.of(found.get(expected.getKey()));
        if (!Json.equal(expected.getValue(), value)) {
          return expected.getKey() + ": expected " + expected.getValue() + ", found " + value;
        }
      }
      return null;
    } catch (Exception error) {
      return error.toString();
    }
  }
}
