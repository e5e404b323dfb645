package conformance;

import finermoe.ProgressListener;
import java.util.LinkedHashSet;
import java.util.Map;
import java.util.Set;

/** Takes note of phases. */
final class Progress implements ProgressListener {
  private final Set<String> phases = new LinkedHashSet<>();
  private boolean complete;

  @Override
  public boolean progress(String phase, long done, long total) {
    phases.add(phase);
    complete = done == total;
    return true;
  }

  Map<String, Object> result() {
    return Map.of("phases", phases, "complete", complete);
  }
}
