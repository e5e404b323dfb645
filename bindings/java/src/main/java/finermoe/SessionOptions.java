package finermoe;

/**
 * What a {@link Session} holds and keeps.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class SessionOptions extends NativeObject {
  Callback progress;

  private SessionOptions() {
    super(NativeJNI::sessionOptionsFree);
  }

  /**
   * The defaults.
   *
   * @return new options
   */
  public static SessionOptions create() {
    final SessionOptions options = new SessionOptions();
    Native.sessionOptionsCreate(options);
    return options;
  }

  /**
   * Sets how many tokens the session can hold.
   *
   * @param nTokens 0: the smaller of the model's positions and 4096
   * @return these options
   */
  public SessionOptions contextLength(long nTokens) {
    Native.sessionOptionsSetContextLength(this, nTokens);
    return this;
  }

  /**
   * Sets how the KV cache stores keys and values.
   *
   * @param dtype F32 (the default), F16, BF16 or Q8
   * @return these options
   */
  public SessionOptions kvDtype(DType dtype) {
    Native.sessionOptionsSetKvDtype(this, dtype.value);
    return this;
  }

  /**
   * Sets how the products with weights are computed.
   *
   * @param precision {@link Precision#EXACT} by default
   * @return these options
   */
  public SessionOptions precision(Precision precision) {
    Native.sessionOptionsSetPrecision(this, precision.value);
    return this;
  }

  /**
   * Sets how many tokens of a long prompt are computed in one pass.
   *
   * @param nTokens 0: 512
   * @return these options
   */
  public SessionOptions chunk(long nTokens) {
    Native.sessionOptionsSetChunk(this, nTokens);
    return this;
  }

  /**
   * Sets who hears how far a long prompt has come, phase "prefill", in tokens.
   *
   * @param listener null: nobody
   * @return these options
   */
  public SessionOptions progress(ProgressListener listener) {
    progress = Callback.of(listener);
    Native.sessionOptionsSetProgress(this, progress);
    return this;
  }

  /**
   * Sets whether hidden states are kept.
   *
   * @param hidden {@link Hidden#NONE} by default
   * @return these options
   */
  public SessionOptions hidden(Hidden hidden) {
    Native.sessionOptionsSetHidden(this, hidden.value);
    return this;
  }
}
