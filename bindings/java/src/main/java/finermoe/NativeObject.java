package finermoe;

import java.lang.ref.Cleaner;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.LongConsumer;

/**
 * A Java object with an object of the library behind it.
 *
 * <p>Every call enters and leaves the objects that it uses (the generated class Native does so), and what is closed is
 * freed only when the last call has left. An object that nobody closed is freed by a Cleaner.
 */
abstract class NativeObject implements AutoCloseable {
  private static final Cleaner CLEANER = Cleaner.create();

  private final State state;
  private final Cleaner.Cleanable cleanable;

  /** An object that the library gives to any number of threads, or refuses to a second one itself. */
  NativeObject(LongConsumer free, LongConsumer close, Object memory) {
    this(new State(free, close, null, memory));
  }

  /** An object for one thread at a time: others wait. */
  NativeObject(LongConsumer free) {
    this(new State(free, null, new ReentrantLock(), null));
  }

  private NativeObject(State state) {
    this.state = state;
    cleanable = CLEANER.register(this, state::free);
  }

  /** Frees what the library holds. What runs on this object ends first. A second call does nothing. */
  @Override
  public void close() {
    state.close();
    cleanable.clean();
  }

  /**
   * Whether this object was closed.
   *
   * @return true after {@link #close}
   */
  public boolean isClosed() {
    return state.isClosed();
  }

  final void requireOpen() {
    if (isClosed()) throw closed();
  }

  private IllegalStateException closed() {
    return new IllegalStateException("this " + getClass().getSimpleName() + " is closed");
  }

  /** Memory that must outlive this object, or null: what is made from this object has to keep it too. */
  final Object memory() {
    return state.memory;
  }

  /** The library's pointer, for a call that ends with {@link #exit}; 0 for null. */
  static long enter(NativeObject object) {
    return object == null ? 0 : object.state.enter(object);
  }

  final void exit() {
    state.exit();
  }

  /** Called once, with what the library made, or 0 where it failed. */
  final void take(long pointer) {
    state.take(pointer);
  }

  /** What is left to do when the Java object is gone; it must not lead back to that. */
  private static final class State {
    private final LongConsumer free;
    private final LongConsumer close;
    private final ReentrantLock lock;
    private final Object memory;
    private long pointer;
    private int calls;
    private boolean closed;

    State(LongConsumer free, LongConsumer close, ReentrantLock lock, Object memory) {
      this.free = free;
      this.close = close;
      this.lock = lock;
      this.memory = memory;
    }

    synchronized void take(long made) {
      pointer = made;
    }

    long enter(NativeObject object) {
      if (lock != null) lock.lock();
      final long entered = count();
      if (entered == 0) {
        if (lock != null) lock.unlock();
        throw object.closed();
      }
      return entered;
    }

    private synchronized long count() {
      if (closed || pointer == 0) return 0;
      calls++;
      return pointer;
    }

    void exit() {
      leave();
      if (lock != null) lock.unlock();
    }

    private synchronized void leave() {
      if (--calls == 0 && closed) freeNow();
    }

    /** Ends what runs, by the library's own _close. */
    synchronized void close() {
      if (!closed && pointer != 0 && close != null) close.accept(pointer);
      free();
    }

    synchronized void free() {
      closed = true;
      if (calls == 0) freeNow();
    }

    private void freeNow() {
      final long freed = pointer;
      pointer = 0;
      if (freed != 0) free.accept(freed);
    }

    synchronized boolean isClosed() {
      return closed;
    }
  }
}
