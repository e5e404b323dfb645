package finermoe;

/**
 * What the router did. One thread at a time: another one gets {@link ErrorCode#BUSY}.
 *
 * <p>The parameter moeLayer counts the layers that {@link #layers} lists. Row i of a result belongs to the token of
 * position i in {@link #positions}.
 */
public final class Trace extends NativeObject {
  private volatile Session session;

  private Trace(Model model) {
    super(NativeJNI::traceFree, null, model.memory());
  }

  /**
   * A trace that records when {@link Session#setTrace} is told of it.
   *
   * @param model with experts: a dense one is {@link ErrorCode#UNSUPPORTED}
   * @param kinds what to record
   * @return a new one
   */
  public static Trace create(Model model, TraceKind... kinds) {
    int what = 0;
    for (TraceKind kind : kinds) what |= kind.value;
    final Trace trace = new Trace(model);
    Native.traceCreate(model, what, trace);
    return trace;
  }

  void records(Session recorded) {
    session = recorded;
  }

  /** Ends recording. */
  @Override
  public void close() {
    if (session != null) session.stop(this);
    super.close();
  }

  /** Forgets what was recorded. */
  public void clear() {
    Native.traceClear(this);
  }

  /**
   * What has been recorded.
   *
   * @return the present state
   */
  public TraceInfo info() {
    try (NativeTraceInfo info = new NativeTraceInfo()) {
      Native.traceGetInfo(this, info);
      return TraceInfo.of(info);
    }
  }

  /**
   * The model's own indices of its layers with experts.
   *
   * @return [n moe layers]
   */
  public long[] layers() {
    final long[][] layers = {null};
    Native.traceLayers(this, layers);
    return layers[0];
  }

  /**
   * The position in its session of each token recorded; one that was computed twice is listed twice.
   *
   * @return [n tokens]
   */
  public long[] positions() {
    final long[][] positions = {null};
    Native.tracePositions(this, positions);
    return positions[0];
  }

  /**
   * The experts of each token, ascending.
   *
   * @param moeLayer index into {@link #layers}
   * @return [n tokens][n experts per token]
   */
  public int[][] experts(long moeLayer) {
    final int[][] experts = {null};
    Native.traceExperts(this, moeLayer, experts);
    return Rows.of(experts[0], info().nExpertsPerToken());
  }

  /**
   * The weights of these experts.
   *
   * @param moeLayer index into {@link #layers}
   * @return [n tokens][n experts per token]
   */
  public float[][] weights(long moeLayer) {
    final TraceInfo info = info();
    final float[] weights = Rows.room(info.nTokens(), info.nExpertsPerToken());
    Native.traceWeights(this, moeLayer, weights);
    return Rows.of(weights, info.nExpertsPerToken());
  }

  /**
   * The group that won each output component, of all groups.
   *
   * @param moeLayer index into {@link #layers}
   * @return [n tokens][n components]
   */
  public int[][] groups(long moeLayer) {
    final int[][] groups = {null};
    Native.traceGroups(this, moeLayer, groups);
    return Rows.of(groups[0], info().nComponents());
  }

  /**
   * The router's logits of each token.
   *
   * @param moeLayer index into {@link #layers}
   * @return [n tokens][n experts]
   */
  public float[][] logits(long moeLayer) {
    final TraceInfo info = info();
    final float[] logits = Rows.room(info.nTokens(), info.nExperts());
    Native.traceLogits(this, moeLayer, logits);
    return Rows.of(logits, info.nExperts());
  }

  /**
   * How often each expert was chosen.
   *
   * @param moeLayer index into {@link #layers}
   * @return [n experts]
   */
  public long[] usage(long moeLayer) {
    final long[][] counts = {null};
    Native.traceUsage(this, moeLayer, counts);
    return counts[0];
  }

  /**
   * The load-balancing loss without its factor, all recorded tokens taken as one sequence.
   *
   * @param moeLayer index into {@link #layers}
   * @return 1 when perfectly even
   */
  public double balanceLoss(long moeLayer) {
    final double[] loss = {0};
    Native.traceBalanceLoss(this, moeLayer, loss);
    return loss[0];
  }
}
