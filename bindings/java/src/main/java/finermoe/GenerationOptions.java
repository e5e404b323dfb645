package finermoe;

import java.util.Objects;

/**
 * How tokens are chosen, and when a {@link Generation} ends.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class GenerationOptions extends NativeObject {
  /** The model that drafts, or null: requests use its callbacks and memory. */
  private volatile Model draftModel;

  private GenerationOptions() {
    super(NativeJNI::generationOptionsFree);
  }

  /**
   * Options that begin with the defaults of a model's generation_config.json, its stop tokens among them.
   *
   * @param model they can be used with other models too
   * @return new options
   */
  public static GenerationOptions of(Model model) {
    return from(Objects.requireNonNull(model));
  }

  /**
   * Neutral options: greedy, no penalties, no stop tokens, no limit.
   *
   * @return new options
   */
  public static GenerationOptions create() {
    return from(null);
  }

  private static GenerationOptions from(Model model) {
    final GenerationOptions options = new GenerationOptions();
    Native.generationOptionsCreate(model, options);
    return options;
  }

  /**
   * Sets how many tokens are generated at most.
   *
   * @param n 0: until a stop or the end of the context
   * @return these options
   */
  public GenerationOptions maxTokens(long n) {
    Native.generationOptionsSetMaxTokens(this, n);
    return this;
  }

  /**
   * Sets before how many tokens stop tokens are never chosen and stop strings ignored.
   *
   * @param n 0 by default
   * @return these options
   */
  public GenerationOptions minTokens(long n) {
    Native.generationOptionsSetMinTokens(this, n);
    return this;
  }

  /**
   * Divides the logits.
   *
   * @param temperature 0: greedy
   * @return these options
   */
  public GenerationOptions temperature(double temperature) {
    Native.generationOptionsSetTemperature(this, temperature);
    return this;
  }

  /**
   * Keeps the largest logits.
   *
   * @param k how many; 0: all
   * @return these options
   */
  public GenerationOptions topK(long k) {
    Native.generationOptionsSetTopK(this, k);
    return this;
  }

  /**
   * Keeps the smallest set whose probability reaches p.
   *
   * @param p in (0, 1]; 1: all
   * @return these options
   */
  public GenerationOptions topP(double p) {
    Native.generationOptionsSetTopP(this, p);
    return this;
  }

  /**
   * Drops what is less likely than p times the likeliest.
   *
   * @param p in [0, 1); 0: nothing
   * @return these options
   */
  public GenerationOptions minP(double p) {
    Native.generationOptionsSetMinP(this, p);
    return this;
  }

  /**
   * Locally typical sampling.
   *
   * @param p in (0, 1]; 1: off
   * @return these options
   */
  public GenerationOptions typicalP(double p) {
    Native.generationOptionsSetTypicalP(this, p);
    return this;
  }

  /**
   * Divides the logits of tokens that stand in prompt or output (multiplies negative ones).
   *
   * @param penalty 1e-6 to 1e6; 1: off
   * @return these options
   */
  public GenerationOptions repetitionPenalty(double penalty) {
    Native.generationOptionsSetRepetitionPenalty(this, penalty);
    return this;
  }

  /**
   * Is subtracted from a token's logit for each time it was generated.
   *
   * @param penalty 0: off
   * @return these options
   */
  public GenerationOptions frequencyPenalty(double penalty) {
    Native.generationOptionsSetFrequencyPenalty(this, penalty);
    return this;
  }

  /**
   * Is subtracted once from the logits of tokens that were generated.
   *
   * @param penalty 0: off
   * @return these options
   */
  public GenerationOptions presencePenalty(double penalty) {
    Native.generationOptionsSetPresencePenalty(this, penalty);
    return this;
  }

  /**
   * Sets the seed of the random stream, which is the same on every platform.
   *
   * @param seed any 64 bits; 0 by default
   * @return these options
   */
  public GenerationOptions seed(long seed) {
    Native.generationOptionsSetSeed(this, seed);
    return this;
  }

  /**
   * Adds a bias to a token's logit; a second one for an id replaces the first.
   *
   * @param id of the token
   * @param bias {@link Float#NEGATIVE_INFINITY} bans it
   * @return these options
   */
  public GenerationOptions logitBias(int id, float bias) {
    Native.generationOptionsAddLogitBias(this, id, bias);
    return this;
  }

  /**
   * Never chooses a token.
   *
   * @param id of the token
   * @return these options
   */
  public GenerationOptions bannedToken(int id) {
    Native.generationOptionsAddBannedToken(this, id);
    return this;
  }

  /**
   * Ends the generation when a token is chosen.
   *
   * @param id of the token
   * @return these options
   */
  public GenerationOptions stopToken(int id) {
    Native.generationOptionsAddStopToken(this, id);
    return this;
  }

  /**
   * Forgets all stop tokens, the model's own too. A chat still ends at its template's end of turn.
   *
   * @return these options
   */
  public GenerationOptions clearStopTokens() {
    Native.generationOptionsClearStopTokens(this);
    return this;
  }

  /**
   * Ends the text before the first occurrence of a string.
   *
   * @param text at least one character
   * @return these options
   */
  public GenerationOptions stop(String text) {
    Native.generationOptionsAddStopString(this, text);
    return this;
  }

  /**
   * Sets whether stop tokens, and a chat's end of turn, do not end the generation.
   *
   * @param ignore false by default
   * @return these options
   */
  public GenerationOptions ignoreEos(boolean ignore) {
    Native.generationOptionsSetIgnoreEos(this, ignore ? 1 : 0);
    return this;
  }

  /**
   * Sets how many alternatives are reported with each token.
   *
   * @param n 0 by default
   * @return these options
   */
  public GenerationOptions topLogprobs(long n) {
    Native.generationOptionsSetTopLogprobs(this, n);
    return this;
  }

  /**
   * Sets whether special tokens appear in the text.
   *
   * @param show false by default
   * @return these options
   */
  public GenerationOptions showSpecial(boolean show) {
    Native.generationOptionsSetShowSpecial(this, show ? 1 : 0);
    return this;
  }

  /**
   * Drafts tokens from what followed the text's last tokens where they stood before. The tokens are those that
   * the request has without, sooner where the text repeats itself.
   *
   * @param n for one pass at most, up to 64; 0 by default: none
   * @return these options
   */
  public GenerationOptions lookup(long n) {
    Native.generationOptionsSetLookup(this, n);
    return this;
  }

  /**
   * Drafts tokens with another model of the same vocabulary, such as the dense one that an upcycled model came from.
   * The tokens are those that the request has without, sooner.
   *
   * @param model null: none
   * @param n for one pass at most, up to 64; 0: none
   * @return these options
   */
  public GenerationOptions draft(Model model, long n) {
    Native.generationOptionsSetDraft(this, model, n);
    draftModel = model;
    return this;
  }

  static Model draftModelOf(GenerationOptions options) {
    return options == null ? null : options.draftModel;
  }

  /**
   * A second object with the same options.
   *
   * @return a copy
   */
  public GenerationOptions copy() {
    final GenerationOptions copy = new GenerationOptions();
    Native.generationOptionsCopy(this, copy);
    copy.draftModel = draftModel;
    return copy;
  }

  /**
   * What is set.
   *
   * @return the values
   */
  public GenerationOptionsInfo info() {
    try (NativeGenerationOptionsInfo info = new NativeGenerationOptionsInfo()) {
      Native.generationOptionsGetInfo(this, info);
      return GenerationOptionsInfo.of(info);
    }
  }
}
