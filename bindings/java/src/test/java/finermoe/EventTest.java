package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;
import static org.junit.jupiter.api.Assumptions.assumeTrue;

import com.sun.management.ThreadMXBean;
import java.lang.management.ManagementFactory;
import java.util.List;
import java.util.stream.Collectors;
import org.junit.jupiter.api.Test;

/** Events, and the ways to walk them. */
class EventTest {
  @Test
  void iteratorStreamAndTextAreTheSame() {
    try (Model model = Models.open(); Session session = model.session()) {
      final GenerationOptions options = GenerationOptions.of(model).maxTokens(6);
      final String expected = model.generate("A ship", options);
      final StringBuilder text = new StringBuilder();
      for (Event event : session.generate("A ship", options)) text.append(event.text());
      assertEquals(expected, text.toString());
      session.reset();
      assertEquals(expected,
          session.generate("A ship", options).stream().map(Event::text).collect(Collectors.joining()));
      session.reset();
      final Generation generation = session.generate("A ship", options);
      assertEquals(expected, generation.text());
      assertEquals("", generation.text());
      assertEquals(List.of(), generation.stream().toList());
      assertEquals(-1, generation.next().token());
    }
  }

  @Test
  void anEventWithoutTextAllocatesNothingBeyondItself() {
    assumeTrue(ManagementFactory.getThreadMXBean() instanceof ThreadMXBean, "this JVM does not count allocations");
    final ThreadMXBean threads = (ThreadMXBean) ManagementFactory.getThreadMXBean();
    try (Model model = Models.open(); Session session = model.session();
         Generation generation = session.generate("A ship")) {
      generation.text();
      for (int i = 0; i < 20_000; i++) generation.next();
      final long before = threads.getCurrentThreadAllocatedBytes();
      for (int i = 0; i < 10_000; i++) generation.next();
      final long perEvent = (threads.getCurrentThreadAllocatedBytes() - before) / 10_000;
      assertTrue(perEvent <= 40, perEvent + " bytes"); // a record with five components
    }
  }
}
