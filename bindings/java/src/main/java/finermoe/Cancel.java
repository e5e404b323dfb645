package finermoe;

import java.util.Collections;
import java.util.IdentityHashMap;
import java.util.Set;

/**
 * A flag that any thread may raise. Calls that were given it look at it between layers, chunks and files, and throw
 * {@link ErrorCode#CANCELLED}; a generation goes on when it is called again, after {@link #reset}. Any number of calls
 * may have the same flag.
 */
public final class Cancel extends NativeObject {
  private final Set<Interruption> running = Collections.newSetFromMap(new IdentityHashMap<>());

  private Cancel() {
    super(NativeJNI::cancelFree, null, null);
  }

  /**
   * A flag that is not raised.
   *
   * @return a new one
   */
  public static Cancel create() {
    final Cancel cancel = new Cancel();
    Native.cancelCreate(cancel);
    return cancel;
  }

  /** Raises the flag. */
  public void request() {
    synchronized (running) {
      Native.cancelRequest(this);
      running.forEach(Interruption::wakeup);
    }
  }

  /** Lowers it again. */
  public void reset() {
    Native.cancelReset(this);
  }

  /**
   * Whether the flag is raised.
   *
   * @return true if it is
   */
  public boolean isRequested() {
    return Native.cancelRequested(this) != 0;
  }

  /** A call begins that this flag ends. */
  void add(Interruption interruption) {
    synchronized (running) {
      if (isRequested()) interruption.wakeup();
      running.add(interruption);
    }
  }

  void remove(Interruption interruption) {
    synchronized (running) {
      running.remove(interruption);
    }
  }
}
