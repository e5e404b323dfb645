package conformance;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import org.junit.jupiter.api.Test;

/** Every row of the conformance suite; the table is written to conformance.txt where Maven builds. */
class ConformanceTest {
  @Test
  void everyRow() throws Exception {
    Row.models = Path.of(System.getProperty("finermoe.models"));
    Row.shapes = Path.of(System.getProperty("finermoe.shapes"));
    final Path table = Path.of(System.getProperty("finermoe.table"));
    final int failed;
    try (PrintStream out = new PrintStream(Files.newOutputStream(table), true, StandardCharsets.UTF_8)) {
      failed = Conformance.run(Path.of(System.getProperty("finermoe.rows")), out);
    }
    assertEquals(0, failed, Files.readString(table));
  }
}
