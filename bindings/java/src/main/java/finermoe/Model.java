package finermoe;

import java.io.FileDescriptor;
import java.nio.ByteBuffer;
import java.nio.file.Path;

/**
 * A mapped checkpoint. Any number of threads may use it at once.
 *
 * <p>Closing it ends what runs on its sessions: they answer {@link ErrorCode#CLOSED} from then on.
 */
public final class Model extends NativeObject {
  private final FinermoeRuntime givenRuntime;
  private FinermoeRuntime runtime;
  private Config config;
  private Tokenizer tokenizer;
  private volatile ConfigInfo shape;

  private Model(FinermoeRuntime givenRuntime, Object memory) {
    super(NativeJNI::modelFree, NativeJNI::modelClose, memory);
    this.givenRuntime = givenRuntime;
  }

  /**
   * Opens a checkpoint with the defaults.
   *
   * @param path a Hugging Face folder or a single .safetensors file
   * @return a new model
   */
  public static Model open(Path path) {
    return open(path, null);
  }

  /**
   * Opens a checkpoint. Only headers are read; weights are read when they are first used.
   *
   * @param path    a Hugging Face folder or a single .safetensors file
   * @param options null: the defaults
   * @return a new model
   * @throws FinermoeException with any code for files, safetensors and config.json
   */
  public static Model open(Path path, ModelOptions options) {
    return open(options, null, model -> Native.modelOpen(path, options, model));
  }

  /**
   * Opens a single-file model, or a folder, that is open already.
   *
   * @param descriptor stays the caller's, and may be closed afterwards
   * @param options    null: the defaults
   * @return a new model
   */
  public static Model open(FileDescriptor descriptor, ModelOptions options) {
    return open(options, null, model -> Native.modelOpenFd(descriptor, options, model));
  }

  /**
   * Opens a single-file model in memory.
   *
   * @param data    from its position to its limit; a direct or mapped buffer is used where it is, and must not be
   *                changed while the model or anything made from it lives; another one is copied
   * @param options null: the defaults
   * @return a new model
   */
  public static Model open(ByteBuffer data, ModelOptions options) {
    final ByteBuffer memory = data.isDirect() ? data.slice()
        : ByteBuffer.allocateDirect(data.remaining()).put(data.duplicate()).flip();
    return open(options, memory, model -> Native.modelOpenMemory(memory, options, model));
  }

  private static Model open(ModelOptions options, ByteBuffer memory, Opener opener) {
    if (options == null || options.ownRuntime == null) {
      return opener.open(new Model(options == null ? null : options.runtime, memory));
    }
    // A runtime for this model alone: nobody else holds it when the model is closed.
    synchronized (options) {
      try (FinermoeRuntime own = FinermoeRuntime.create(options.ownRuntime)) {
        Native.modelOptionsSetRuntime(options, own);
        return opener.open(new Model(own, memory));
      } finally {
        Native.modelOptionsSetRuntime(options, null);
      }
    }
  }

  private interface Opener {
    void call(Model model);

    default Model open(Model model) {
      call(model);
      return model;
    }
  }

  /** Ends what runs on the sessions, and closes what {@link #runtime}, {@link #config} and {@link #tokenizer} gave. */
  @Override
  public void close() {
    super.close();
    synchronized (this) {
      if (runtime != null) runtime.close();
      if (config != null) config.close();
      if (tokenizer != null) tokenizer.close();
    }
  }

  /**
   * The runtime that the model computes on.
   *
   * @return always the same one, which is closed with the model
   */
  public synchronized FinermoeRuntime runtime() {
    if (runtime == null || runtime.isClosed()) runtime = FinermoeRuntime.of(this, givenRuntime);
    return runtime;
  }

  /**
   * The model's configuration.
   *
   * @return always the same one, which is closed with the model
   */
  public synchronized Config config() {
    if (config == null || config.isClosed()) config = Config.of(this);
    return config;
  }

  /**
   * The model's tokenizer, parsed at the first call.
   *
   * @return always the same one, which is closed with the model
   * @throws FinermoeException {@link ErrorCode#NO_TOKENIZER}, or what is wrong with its files
   */
  public synchronized Tokenizer tokenizer() {
    if (tokenizer == null || tokenizer.isClosed()) tokenizer = Tokenizer.of(this);
    return tokenizer;
  }

  /** Sizes of rows. */
  ConfigInfo shape() {
    if (shape == null) shape = config().info();
    return shape;
  }

  /**
   * A session with the defaults.
   *
   * @return a new one
   */
  public Session session() {
    return session(null);
  }

  /**
   * A session.
   *
   * @param options null: the defaults
   * @return a new one
   */
  public Session session(SessionOptions options) {
    return Session.of(this, options);
  }

  /**
   * A batch, whose own sessions have the defaults.
   *
   * @return a new one
   */
  public Batch batch() {
    return batch(null);
  }

  /**
   * A batch.
   *
   * @param options of the sessions that it makes itself; null: the defaults
   * @return a new one
   */
  public Batch batch(SessionOptions options) {
    return Batch.of(this, options);
  }

  /**
   * Answers a prompt, on a session of its own.
   *
   * @param prompt  a text
   * @param options null: the model's defaults
   * @return the text behind the prompt
   */
  public String generate(String prompt, GenerationOptions options) {
    try (Session session = session(); Generation generation = session.generate(prompt, options)) {
      return generation.text();
    }
  }

  /**
   * What became of the experts that the model fetches. Any thread may ask while sessions compute.
   *
   * @return the present counts
   */
  public ExpertCacheInfo expertCache() {
    try (NativeExpertCacheInfo info = new NativeExpertCacheInfo()) {
      Native.modelGetExpertCache(this, info);
      return ExpertCacheInfo.of(info);
    }
  }

  /**
   * Mean cosine similarity over all pairs of routed experts of one layer.
   *
   * @param layer the model's own index of the layer; a dense one is {@link ErrorCode#INVALID_ARGUMENT}
   * @return -1 to 1
   */
  public double expertSimilarity(long layer) {
    return expertSimilarity(layer, null);
  }

  /**
   * Mean cosine similarity over all pairs of routed experts of one layer.
   *
   * @param layer  the model's own index of the layer; a dense one is {@link ErrorCode#INVALID_ARGUMENT}
   * @param cancel null: none
   * @return -1 to 1
   */
  public double expertSimilarity(long layer, Cancel cancel) {
    final double[] similarity = {0};
    final Interruption running = Interruption.enter(cancel, null);
    try {
      Native.modelExpertSimilarity(this, layer, running.flag(), similarity);
    } finally {
      running.leave();
    }
    return similarity[0];
  }
}
