package finermoe;

/**
 * The values of {@link GenerationOptions}.
 *
 * @param ignoreEos ignore eos
 * @param maxTokens max tokens
 * @param minTokens min tokens
 * @param temperature temperature
 * @param topK top k
 * @param topP top p
 * @param minP min p
 * @param typicalP typical p
 * @param repetitionPenalty repetition penalty
 * @param frequencyPenalty frequency penalty
 * @param presencePenalty presence penalty
 * @param seed seed
 * @param nStopTokens number of stop tokens
 */
public record GenerationOptionsInfo(
    boolean ignoreEos,
    long maxTokens,
    long minTokens,
    double temperature,
    long topK,
    double topP,
    double minP,
    double typicalP,
    double repetitionPenalty,
    double frequencyPenalty,
    double presencePenalty,
    long seed,
    long nStopTokens) {

  static GenerationOptionsInfo of(NativeGenerationOptionsInfo info) {
    return new GenerationOptionsInfo(
        info.getIgnoreEos() != 0,
        info.getMaxTokens(),
        info.getMinTokens(),
        info.getTemperature(),
        info.getTopK(),
        info.getTopP(),
        info.getMinP(),
        info.getTypicalP(),
        info.getRepetitionPenalty(),
        info.getFrequencyPenalty(),
        info.getPresencePenalty(),
        info.getSeed(),
        info.getNStopTokens());
  }
}
