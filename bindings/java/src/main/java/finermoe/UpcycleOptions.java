package finermoe;

/**
 * What {@link Checkpoints#upcycle(Path, Path, UpcycleOptions, WriterOptions) upcycling} makes of a dense FFN.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class UpcycleOptions extends NativeObject {
  private UpcycleOptions() {
    super(NativeJNI::upcycleOptionsFree);
  }

  /**
   * The options of a preset.
   *
   * @param name "finermoe", "c32a2", "s16a4", "drop-upcycling", "nvshard", "no-fg", "inter-fg" or "out-fg"; null:
   *     "finermoe"
   * @return new options
   */
  public static UpcycleOptions preset(String name) {
    final UpcycleOptions options = new UpcycleOptions();
    Native.upcycleOptionsCreate(name, options);
    return options;
  }

  /**
   * Sets the shape; a 0 leaves the value of the preset.
   *
   * @param granularityInter G_I
   * @param expansionInter R_I
   * @param granularityOutput G_O
   * @param expansionOutput R_O
   * @param topInter T_I
   * @return these options
   */
  public UpcycleOptions shape(long granularityInter, long expansionInter, long granularityOutput, long expansionOutput,
      long topInter) {
    Native.upcycleOptionsSetShape(this, granularityInter, expansionInter, granularityOutput, expansionOutput, topInter);
    return this;
  }

  /**
   * Sets whether the dense FFN becomes the shared expert.
   *
   * @param shared false: there is none
   * @return these options
   */
  public UpcycleOptions sharedExpert(boolean shared) {
    Native.upcycleOptionsSetSharedExpert(this, shared ? 1 : 0);
    return this;
  }

  /**
   * Sets how concat projections begin.
   *
   * @param concatProj or that there are none
   * @return these options
   */
  public UpcycleOptions concatProj(ConcatProj concatProj) {
    Native.upcycleOptionsSetConcatProj(this, concatProj.value);
    return this;
  }

  /**
   * Sets whether the output components have a second router.
   *
   * @param separate true: they have
   * @return these options
   */
  public UpcycleOptions separateRouter(boolean separate) {
    Native.upcycleOptionsSetSeparateRouter(this, separate ? 1 : 0);
    return this;
  }

  /**
   * Sets what the experts' down matrices are multiplied by.
   *
   * @param scale 0 (default): G_I without a shared expert, else 1
   * @return these options
   */
  public UpcycleOptions downScale(double scale) {
    Native.upcycleOptionsSetDownScale(this, scale);
    return this;
  }

  /**
   * Sets which share of each expert's intermediate indices is drawn anew (Drop-Upcycling).
   *
   * @param ratio 0 to 1
   * @return these options
   */
  public UpcycleOptions dropRatio(double ratio) {
    Native.upcycleOptionsSetDropRatio(this, ratio);
    return this;
  }

  /**
   * Sets how the routers begin.
   *
   * @param routerInit with weights of its own or the same in each virtual group
   * @return these options
   */
  public UpcycleOptions routerInit(RouterInit routerInit) {
    Native.upcycleOptionsSetRouterInit(this, routerInit.value);
    return this;
  }
}
