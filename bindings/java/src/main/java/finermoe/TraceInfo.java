package finermoe;

/**
 * What a trace has recorded.
 *
 * @param what bits of {@link TraceKind}
 * @param nMoeLayers number of Mixture-of-Experts layers
 * @param nTokens recorded so far
 * @param nExperts N
 * @param nExpertsPerToken G_O T_I
 * @param nComponents G_O
 */
public record TraceInfo(
    int what,
    long nMoeLayers,
    long nTokens,
    long nExperts,
    long nExpertsPerToken,
    long nComponents) {

  static TraceInfo of(NativeTraceInfo info) {
    return new TraceInfo(
        info.getWhat(),
        info.getNMoeLayers(),
        info.getNTokens(),
        info.getNExperts(),
        info.getNExpertsPerToken(),
        info.getNComponents());
  }
}
