package finermoe;

/**
 * The values of {@link GenerationOptions}.
 *
 * @param ignoreEos {@link GenerationOptions#ignoreEos}
 * @param maxTokens {@link GenerationOptions#maxTokens}
 * @param minTokens {@link GenerationOptions#minTokens}
 * @param temperature {@link GenerationOptions#temperature}
 * @param topK {@link GenerationOptions#topK}
 * @param topP {@link GenerationOptions#topP}
 * @param minP {@link GenerationOptions#minP}
 * @param typicalP {@link GenerationOptions#typicalP}
 * @param repetitionPenalty {@link GenerationOptions#repetitionPenalty}
 * @param frequencyPenalty {@link GenerationOptions#frequencyPenalty}
 * @param presencePenalty {@link GenerationOptions#presencePenalty}
 * @param seed {@link GenerationOptions#seed}
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
