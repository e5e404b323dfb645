package finermoe;

import java.util.ArrayList;
import java.util.List;

/**
 * Worker threads and memory accounts, shared by the models that are opened with it. A model that is opened without one
 * gets its own. Any number of threads may use it at once.
 */
public final class FinermoeRuntime extends NativeObject {
  private final Callback log;
  private final Callback executor;

  private FinermoeRuntime(Callback log, Callback executor) {
    super(NativeJNI::runtimeFree, null, null);
    this.log = log;
    this.executor = executor;
  }

  /**
   * A runtime. Its threads start at the first computation.
   *
   * @param options null: the defaults
   * @return a new one
   * @throws FinermoeException {@link ErrorCode#UNSUPPORTED} for a name that is no device's here, {@link
   *     ErrorCode#NO_DEVICE} and others where the device or its driver is missing
   */
  public static FinermoeRuntime create(RuntimeOptions options) {
    final FinermoeRuntime runtime = options == null ? new FinermoeRuntime(null, null)
        : new FinermoeRuntime(options.log, options.executor);
    Native.runtimeCreate(options, runtime);
    return runtime;
  }

  /** The runtime that a model computes on; `like` is one of the same, whose callbacks it keeps, or null. */
  static FinermoeRuntime of(Model model, FinermoeRuntime like) {
    final FinermoeRuntime runtime = like == null ? new FinermoeRuntime(null, null)
        : new FinermoeRuntime(like.log, like.executor);
    Native.runtimeOpenModel(model, runtime);
    return runtime;
  }

  /**
   * What it computes on, and the memory that it counts.
   *
   * @return the present state
   */
  public RuntimeInfo info() {
    try (NativeRuntimeInfo info = new NativeRuntimeInfo()) {
      Native.runtimeGetInfo(this, info);
      return RuntimeInfo.of(info);
    }
  }

  /**
   * What was measured since the runtime was made or {@link #resetProfile} was called.
   *
   * @return one for each kind of operation; none without {@link RuntimeOptions#profile}
   */
  public List<Operation> operations() {
    final List<Operation> operations = new ArrayList<>();
    try (NativeRuntimeOperation operation = new NativeRuntimeOperation()) {
      for (long i = 0; i < Native.runtimeOperationCount(this); i++) {
        Native.runtimeGetOperation(this, i, operation);
        operations.add(Operation.of(operation));
      }
    }
    return operations;
  }

  /** Forgets what was measured. */
  public void resetProfile() {
    Native.runtimeResetProfile(this);
  }
}
