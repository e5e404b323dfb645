package finermoe;

/**
 * How {@link Checkpoints} writes.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class WriterOptions extends NativeObject {
  private Callback progress;
  private Cancel cancel;

  private WriterOptions() {
    super(NativeJNI::writerOptionsFree);
  }

  /**
   * The defaults.
   *
   * @return new options
   */
  public static WriterOptions create() {
    final WriterOptions options = new WriterOptions();
    Native.writerOptionsCreate(options);
    return options;
  }

  /**
   * Sets the seed of every random draw.
   *
   * @param seed any 64 bits; 0 by default
   * @return these options
   */
  public WriterOptions seed(long seed) {
    Native.writerOptionsSetSeed(this, seed);
    return this;
  }

  /**
   * Limits what a shard may hold.
   *
   * @param bytes 5,000,000,000 by default
   * @return these options
   */
  public WriterOptions shardSize(long bytes) {
    Native.writerOptionsSetShardSize(this, bytes);
    return this;
  }

  /**
   * Sets whether a model that exists at the destination is replaced when the new one is whole.
   *
   * @param overwrite false (the default): {@link ErrorCode#FILE_EXISTS}
   * @return these options
   */
  public WriterOptions overwrite(boolean overwrite) {
    Native.writerOptionsSetOverwrite(this, overwrite ? 1 : 0);
    return this;
  }

  /**
   * Sets who hears how far writing has come.
   *
   * @param listener null: nobody
   * @return these options
   */
  public WriterOptions progress(ProgressListener listener) {
    progress = Callback.of(listener);
    Native.writerOptionsSetProgress(this, progress);
    return this;
  }

  /**
   * Sets a flag that ends writing.
   *
   * @param cancel null: none
   * @return these options
   */
  public WriterOptions cancel(Cancel cancel) {
    Native.writerOptionsSetCancel(this, cancel);
    this.cancel = cancel;
    return this;
  }
}
