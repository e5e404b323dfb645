package finermoe;

/** What a trace records. */
public enum TraceKind {
  /** Experts, weights and groups of every token; grows with each. */
  ROUTES(Native.TRACE_ROUTES),
  /** The router's logits of every token; grows with each. */
  LOGITS(Native.TRACE_LOGITS),
  /** How often each expert was chosen; does not grow. */
  USAGE(Native.TRACE_USAGE);

  final int value;

  TraceKind(int value) {
    this.value = value;
  }
}
