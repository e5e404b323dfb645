package finermoe;

/**
 * How far a generation has come.
 *
 * @param finishReason why it ended
 * @param prepared whether the next token's logits are computed, and {@link Generation#next} only chooses
 * @param status null, or the code that {@link Generation#next} would throw, as far as that is known: it cannot
 *     go on
 * @param nPrompt tokens of the prompt, the part that the session already held included
 * @param nGenerated tokens chosen
 * @param nKept of nPrompt: those that the session held already
 * @param tag the number that a {@link Batch} gives with its events
 * @param prefillSeconds spent in passes over the prompt and appended tokens, those with others in a batch
 *     counted whole
 * @param decodeSeconds the same for passes over generated tokens, and the time of choosing
 * @param nDrafted tokens computed ahead ({@link GenerationOptions#lookup}, {@link GenerationOptions#draft})
 * @param nAccepted those of them that were then chosen
 */
public record GenerationInfo(
    FinishReason finishReason,
    boolean prepared,
    ErrorCode status,
    long nPrompt,
    long nGenerated,
    long nKept,
    long tag,
    double prefillSeconds,
    double decodeSeconds,
    long nDrafted,
    long nAccepted) {

  static GenerationInfo of(NativeGenerationInfo info) {
    return new GenerationInfo(
        FinishReason.of(info.getFinishReason()),
        info.getPrepared() != 0,
        info.getStatus() == Native.OK ? null : ErrorCode.of(info.getStatus()),
        info.getNPrompt(),
        info.getNGenerated(),
        info.getNKept(),
        info.getTag(),
        info.getPrefillSeconds(),
        info.getDecodeSeconds(),
        info.getNDrafted(),
        info.getNAccepted());
  }
}
