package finermoe;

import java.util.ArrayList;
import java.util.List;

/** What native code writes an event into; the next event takes its place. */
final class NativeEvent {
  byte[] text;
  int token;
  float logprob;
  int finishReason;
  int[] topIds;
  float[] topLogprobs;

  Event toEvent() {
    return new Event(text == null ? "" : Utf8.decode(text), token, logprob, FinishReason.of(finishReason), top());
  }

  private List<TokenLogprob> top() {
    if (topIds == null) return List.of();
    final List<TokenLogprob> top = new ArrayList<>(topIds.length);
    for (int i = 0; i < topIds.length; i++) top.add(new TokenLogprob(topIds[i], topLogprobs[i]));
    return List.copyOf(top);
  }
}
