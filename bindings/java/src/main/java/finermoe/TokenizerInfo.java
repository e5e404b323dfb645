package finermoe;

/**
 * What is known of a tokenizer.
 *
 * @param bosId the token that begins a text; -1 where none is named
 * @param eosId the token that ends a text; -1 where none is named
 * @param padId the token that fills; -1 where none is named
 * @param vocabSize largest id with a token, plus one
 * @param nAdded added tokens, special or not
 * @param hasChat whether the tokenizer has a chat template that works
 * @param endOfTurnId the token with which the chat template ends a message; -1 where chat does not work. A
 *     generation from the ids of a chat needs it as a stop token; {@link Session#chat(Chat)} adds it itself
 */
public record TokenizerInfo(
    int bosId,
    int eosId,
    int padId,
    long vocabSize,
    long nAdded,
    boolean hasChat,
    int endOfTurnId) {

  static TokenizerInfo of(NativeTokenizerInfo info) {
    return new TokenizerInfo(
        info.getBosId(),
        info.getEosId(),
        info.getPadId(),
        info.getVocabSize(),
        info.getNAdded(),
        info.getHasChat() != 0,
        info.getEndOfTurnId());
  }
}
