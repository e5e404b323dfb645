package finermoe;

import java.nio.file.Path;
import java.util.concurrent.Executor;

/**
 * How a {@link FinermoeRuntime} computes.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class RuntimeOptions extends NativeObject {
  Callback log;
  Callback executor;

  private RuntimeOptions() {
    super(NativeJNI::runtimeOptionsFree);
  }

  /**
   * The defaults: as many threads as this process may use, on the CPU, without a limit.
   *
   * @return new options
   */
  public static RuntimeOptions create() {
    final RuntimeOptions options = new RuntimeOptions();
    Native.runtimeOptionsCreate(options);
    return options;
  }

  /**
   * Sets how many threads compute, the calling one among them.
   *
   * @param n 0: as many processors as this process may use
   * @return these options
   */
  public RuntimeOptions threads(int n) {
    Native.runtimeOptionsSetThreads(this, n);
    return this;
  }

  /**
   * Sets the instruction set of the kernels for the CPU.
   *
   * @param isa one that the machine lacks is {@link ErrorCode#UNSUPPORTED}
   * @return these options
   */
  public RuntimeOptions isa(Isa isa) {
    Native.runtimeOptionsSetIsa(this, isa.value);
    return this;
  }

  /**
   * Limits what models, sessions and their scratch allocate together. Mapped file pages, which the system can drop,
   * do not count.
   *
   * @param bytes 0: no limit
   * @return these options
   */
  public RuntimeOptions memoryLimit(long bytes) {
    Native.runtimeOptionsSetMemoryLimit(this, bytes);
    return this;
  }

  /**
   * Sets who takes the library's messages.
   *
   * @param sink null: nobody
   * @return these options
   */
  public RuntimeOptions log(LogSink sink) {
    log = Callback.of(sink);
    Native.runtimeOptionsSetLog(this, log);
    return this;
  }

  /**
   * Lets the host's own threads compute instead of the library's. The thread that makes a call takes part, and does
   * what the executor has no thread for.
   *
   * @param executor of any kind
   * @param nThreads how many tasks it can run at once
   * @return these options
   */
  public RuntimeOptions executor(Executor executor, int nThreads) {
    final Callback callback = Callback.of(executor);
    Native.runtimeOptionsSetExecutor(this, callback, nThreads);
    this.executor = callback;
    return this;
  }

  /**
   * Sets whether the operations of the models' steps are measured.
   *
   * @param profile false by default
   * @return these options
   */
  public RuntimeOptions profile(boolean profile) {
    Native.runtimeOptionsSetProfile(this, profile ? 1 : 0);
    return this;
  }

  /**
   * Chooses the device that models compute on.
   *
   * @param name of a {@link DeviceInfo}, such as "cuda:0", or "cuda:GPU-" and the beginning of its UUID; null: the CPU
   * @return these options
   */
  public RuntimeOptions device(String name) {
    Native.runtimeOptionsSetDevice(this, name);
    return this;
  }

  /**
   * Adds a device module, whose devices can be chosen too.
   *
   * @param path of a shared library; null: libfinermoe_cuda, where it is installed and a device of it is named
   * @return these options
   */
  public RuntimeOptions deviceModule(Path path) {
    Native.runtimeOptionsSetDeviceModule(this, path);
    return this;
  }

  /**
   * Opens OpenBLAS for the products that it computes faster than the kernels of this processor.
   *
   * @param path of the library; null: OpenBLAS as the system finds it
   * @return these options
   */
  public RuntimeOptions blas(Path path) {
    Native.runtimeOptionsSetBlas(this, path);
    return this;
  }
}
