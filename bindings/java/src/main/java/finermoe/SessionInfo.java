package finermoe;

/**
 * What a session holds.
 *
 * @param kvDtype how its KV cache stores keys and values
 * @param length tokens held
 * @param contextLength most it can hold
 * @param nLogits rows of logits kept by the last append
 * @param kvBytes bytes of the cache
 * @param precision how products with weights are computed
 * @param quantizedDtypes types of weights whose products use quantized activations: bits 1 &lt;&lt; number of {@link DType};
 *     with the others FAST is as EXACT here
 * @param nComputed of length: the others wait for the next call that computes
 * @param nHidden rows of hidden states kept by the last append
 */
public record SessionInfo(
    DType kvDtype,
    long length,
    long contextLength,
    long nLogits,
    long kvBytes,
    Precision precision,
    int quantizedDtypes,
    long nComputed,
    long nHidden) {

  static SessionInfo of(NativeSessionInfo info) {
    return new SessionInfo(
        DType.of(info.getKvDtype()),
        info.getLength(),
        info.getContextLength(),
        info.getNLogits(),
        info.getKvBytes(),
        Precision.of(info.getPrecision()),
        info.getQuantizedDtypes(),
        info.getNComputed(),
        info.getNHidden());
  }
}
