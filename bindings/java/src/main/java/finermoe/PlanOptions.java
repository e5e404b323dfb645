package finermoe;

import java.nio.file.Path;

/**
 * What a host intends to run, for {@link Config#plan(PlanOptions)}.
 *
 * <p>A setter checks its value at once. Options may be used again and again, by one thread at a time; closing them
 * early is allowed and not needed.
 */
public final class PlanOptions extends NativeObject {
  private PlanOptions() {
    super(NativeJNI::planOptionsFree);
  }

  /**
   * One session with the defaults.
   *
   * @return new options
   */
  public static PlanOptions create() {
    final PlanOptions options = new PlanOptions();
    Native.planOptionsCreate(options);
    return options;
  }

  /**
   * Sets context length, cache type and chunk of every session.
   *
   * @param options copied; null: the defaults
   * @return these options
   */
  public PlanOptions session(SessionOptions options) {
    Native.planOptionsSetSession(this, options);
    return this;
  }

  /**
   * Sets how many sessions live at once.
   *
   * @param n 1 by default
   * @return these options
   */
  public PlanOptions sessions(long n) {
    Native.planOptionsSetSessions(this, n);
    return this;
  }

  /**
   * Sets how many threads compute, each with scratch of its own.
   *
   * @param n 0: as many processors as this process may use
   * @return these options
   */
  public PlanOptions threads(int n) {
    Native.planOptionsSetThreads(this, n);
    return this;
  }

  /**
   * Plans for a device, which need not be here.
   *
   * @param module the shared library that has it; null: it is found
   * @param name such as "cuda:0"
   * @param memory bytes of it that the model and its sessions may take; 0: all it has
   * @return these options
   */
  public PlanOptions device(Path module, String name, long memory) {
    Native.planOptionsSetDevice(this, module, name, memory);
    return this;
  }

  /**
   * Plans for experts that are fetched, as {@link ModelOptions#expertCache(long)} has it.
   *
   * @param bytes of the device's memory, into which they are fetched; 0: none is
   * @return these options
   */
  public PlanOptions expertCache(long bytes) {
    Native.planOptionsSetExpertCache(this, bytes);
    return this;
  }

  /**
   * Plans for the threads and the device of a runtime that exists already.
   *
   * @param runtime looked at and not kept
   * @return these options
   */
  public PlanOptions runtime(FinermoeRuntime runtime) {
    Native.planOptionsSetRuntime(this, runtime);
    return this;
  }
}
