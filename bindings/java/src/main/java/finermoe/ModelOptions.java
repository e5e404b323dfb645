package finermoe;

/**
 * How a {@link Model} is opened.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class ModelOptions extends NativeObject {
  FinermoeRuntime runtime;
  RuntimeOptions ownRuntime;
  private Callback progress;
  private Cancel cancel;

  private ModelOptions() {
    super(NativeJNI::modelOptionsFree);
  }

  /**
   * The defaults: weights are used in place from the mapped files, on a runtime of its own.
   *
   * @return new options
   */
  public static ModelOptions create() {
    final ModelOptions options = new ModelOptions();
    Native.modelOptionsCreate(options);
    return options;
  }

  /**
   * Shares a runtime with the model, which keeps it alive.
   *
   * @param runtime null: the model gets one of its own
   * @return these options
   */
  public ModelOptions runtime(FinermoeRuntime runtime) {
    Native.modelOptionsSetRuntime(this, runtime);
    this.runtime = runtime;
    ownRuntime = null;
    return this;
  }

  /**
   * Gives the model a runtime of its own with so many threads: the short form of {@link #runtime} with {@link
   * RuntimeOptions#threads}.
   *
   * @param n 0: as many processors as this process may use
   * @return these options
   */
  public ModelOptions threads(int n) {
    ownRuntime = RuntimeOptions.create().threads(n);
    runtime = null;
    return this;
  }

  /**
   * Sets whether the weights are read into memory, so that nothing can happen to the files afterwards.
   *
   * @param copy false by default
   * @return these options
   */
  public ModelOptions copy(boolean copy) {
    Native.modelOptionsSetCopy(this, copy ? 1 : 0);
    return this;
  }

  /**
   * Sets whether every weight is read once, and NaN and infinity are refused.
   *
   * @param verify false by default
   * @return these options
   */
  public ModelOptions verify(boolean verify) {
    Native.modelOptionsSetVerify(this, verify ? 1 : 0);
    return this;
  }

  /**
   * Sets which weights stay in memory while the model lives.
   *
   * @param lock {@link Lock#NONE} by default
   * @return these options
   */
  public ModelOptions lock(Lock lock) {
    Native.modelOptionsSetLock(this, lock.value);
    return this;
  }

  /**
   * Limits how much of the mapped routed experts is in memory; the least recently used ones are dropped.
   *
   * @param bytes 0: no limit but the system's
   * @return these options
   */
  public ModelOptions expertBudget(long bytes) {
    Native.modelOptionsSetExpertBudget(this, bytes);
    return this;
  }

  /**
   * Sets whether chosen experts are read while the shared expert computes.
   *
   * @param prefetch {@link Prefetch#AUTO} by default
   * @return these options
   */
  public ModelOptions prefetch(Prefetch prefetch) {
    Native.modelOptionsSetPrefetch(this, prefetch.value);
    return this;
  }

  /**
   * Limits the weights on the runtime's device, as a {@link Plan} says; what has no room is computed by the expert
   * device.
   *
   * @param bytes 0: no limit
   * @return these options
   */
  public ModelOptions deviceWeights(long bytes) {
    Native.modelOptionsSetDeviceWeights(this, bytes);
    return this;
  }

  /**
   * Has chosen experts that are not on the runtime's device fetched into a cache there, beside the device's weights.
   *
   * @param bytes of the cache; 0: none
   * @return these options
   */
  public ModelOptions expertCache(long bytes) {
    Native.modelOptionsSetExpertCache(this, bytes);
    return this;
  }

  /**
   * Chooses the device that holds and computes the routed experts, or what has no room on the runtime's device.
   *
   * @param name null: the runtime's device, or the CPU for what has no room there
   * @return these options
   */
  public ModelOptions expertDevice(String name) {
    Native.modelOptionsSetExpertDevice(this, name);
    return this;
  }

  /**
   * Sets who hears how far opening has come.
   *
   * @param listener null: nobody
   * @return these options
   */
  public ModelOptions progress(ProgressListener listener) {
    progress = Callback.of(listener);
    Native.modelOptionsSetProgress(this, progress);
    return this;
  }

  /**
   * Sets a flag that ends opening.
   *
   * @param cancel null: none
   * @return these options
   */
  public ModelOptions cancel(Cancel cancel) {
    Native.modelOptionsSetCancel(this, cancel);
    this.cancel = cancel;
    return this;
  }
}
