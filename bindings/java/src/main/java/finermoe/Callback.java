package finermoe;

import java.lang.ref.Cleaner;
import java.lang.ref.WeakReference;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.Executor;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.atomic.AtomicLong;

/**
 * A function of the host that native code calls by number.
 *
 * <p>The number leads to the function only while somebody holds the Callback: whoever was made with the function
 * (options, a session, a runtime) does. So a function may hold the very object that it was given to, and both can go.
 */
final class Callback {
  private static final Cleaner CLEANER = Cleaner.create();
  private static final Map<Long, WeakReference<Callback>> CALLBACKS = new ConcurrentHashMap<>();
  private static final AtomicLong LAST = new AtomicLong();

  private final long number = LAST.incrementAndGet();
  private final Object function;

  private Callback(Object function) {
    this.function = function;
    final Long key = number;
    CALLBACKS.put(key, new WeakReference<>(this));
    CLEANER.register(this, () -> CALLBACKS.remove(key));
  }

  static Callback of(Object function) {
    return function == null ? null : new Callback(function);
  }

  /** What native code knows a callback by; 0 for null. */
  static long number(Callback callback) {
    return callback == null ? 0 : callback.number;
  }

  private static <T> T function(long number, Class<T> type) {
    final WeakReference<Callback> reference = CALLBACKS.get(number);
    final Callback callback = reference == null ? null : reference.get();
    return callback == null ? null : type.cast(callback.function);
  }

  /** Called by native code. */
  static boolean progress(long number, byte[] phase, long done, long total) {
    final ProgressListener listener = function(number, ProgressListener.class);
    return listener == null || listener.progress(Utf8.decode(phase), done, total);
  }

  /** Called by native code. */
  static void log(long number, int level, byte[] message) {
    final LogSink sink = function(number, LogSink.class);
    if (sink != null) sink.log(LogLevel.of(level), Utf8.decode(message));
  }

  /** Called by native code: runs each of the tasks once, and returns when all have returned. */
  static void execute(long number, long nTasks, long task, long data) {
    final Tasks tasks = new Tasks(nTasks, task, data);
    final Executor executor = function(number, Executor.class);
    try {
      for (long i = 1; i < nTasks && executor != null; i++) executor.execute(tasks);
    } catch (RejectedExecutionException full) {
      // This thread runs what is left, as it does where the executor is slow.
    } finally {
      tasks.run();
      tasks.await();
    }
  }

  /** The tasks of one call. Whoever runs this takes one after the other until none is left. */
  private static final class Tasks implements Runnable {
    private final long count;
    private final long task;
    private final long data;
    private final AtomicLong taken = new AtomicLong();
    private long finished;

    Tasks(long count, long task, long data) {
      this.count = count;
      this.task = task;
      this.data = data;
    }

    @Override
    public void run() {
      long ran = 0;
      for (long i = taken.getAndIncrement(); i < count; i = taken.getAndIncrement()) {
        Native.taskRun(task, data, i);
        ran++;
      }
      if (ran > 0) finish(ran);
    }

    private synchronized void finish(long ran) {
      finished += ran;
      if (finished == count) notifyAll();
    }

    /** An interrupt does not end it: native memory is in use until all tasks have returned. */
    synchronized void await() {
      boolean interrupted = false;
      while (finished < count) {
        try {
          wait();
        } catch (InterruptedException later) {
          interrupted = true;
        }
      }
      if (interrupted) Thread.currentThread().interrupt();
    }
  }
}
