package finermoe;

/**
 * What {@link Checkpoints#quantize(Path, Path, QuantizeOptions, WriterOptions) quantisation} makes of each matrix.
 * Routers, gates, norms and biases always keep their type.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class QuantizeOptions extends NativeObject {
  private QuantizeOptions() {
    super(NativeJNI::quantizeOptionsFree);
  }

  /**
   * One type for all matrices but embeddings and head, which are Q8.
   *
   * @param dtype Q8 or Q4
   * @return new options
   */
  public static QuantizeOptions of(DType dtype) {
    final QuantizeOptions options = new QuantizeOptions();
    Native.quantizeOptionsCreate(dtype.value, options);
    return options;
  }

  /**
   * Sets another type for the matrices whose names match; the last pattern that matches counts.
   *
   * @param pattern of tensor names, with * and ?: "lm_head.weight", "*.self_attn.*"
   * @param dtype Q8, Q4, or null: as in the source
   * @return these options
   */
  public QuantizeOptions override(String pattern, DType dtype) {
    Native.quantizeOptionsAddOverride(this, pattern, dtype == null ? -1 : dtype.value);
    return this;
  }
}
