package finermoe;

/** Why a generation ended. */
public enum FinishReason {
  /** It goes on. */
  NONE(Native.FINISH_NONE),
  /** A stop token: the id is in the event, its text is not. */
  STOP_TOKEN(Native.FINISH_STOP_TOKEN),
  /** A stop string; the text ends before it. */
  STOP_STRING(Native.FINISH_STOP_STRING),
  /** As many tokens as were asked for. */
  MAX_TOKENS(Native.FINISH_MAX_TOKENS),
  /** The session is full. This finish is final. */
  CONTEXT_FULL(Native.FINISH_CONTEXT_FULL),
  /** {@link Generation#finish} was called. */
  HOST(Native.FINISH_HOST),
  /** It cannot go on; only in the items of a {@link Batch}, which have the error. */
  ERROR(Native.FINISH_ERROR),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  private static final FinishReason[] ALL = values(); // which values() would copy for each event

  final int value;

  FinishReason(int value) {
    this.value = value;
  }

  static FinishReason of(int value) {
    for (FinishReason one : ALL) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
