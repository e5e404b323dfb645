package finermoe;

import java.nio.FloatBuffer;
import java.util.Iterator;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.concurrent.locks.ReentrantLock;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * One request on a session: its events come one by one, computed when they are asked for.
 *
 * <p>One thread at a time: one that comes while another thread's call runs gets {@link ErrorCode#BUSY}. Any thread may
 * {@link #cancel} or close it. Interrupting a thread ends its call with {@link ErrorCode#CANCELLED}; it stays
 * interrupted. After a cancel the request goes on when it is called again. It is closed with its session.
 */
public final class Generation extends NativeObject implements Iterable<Event> {
  private final Session session;
  /** Reachable as long as this is: its callbacks are called. */
  private volatile Model draftModel;
  private final NativeEvent event = new NativeEvent();
  private final Cancel stop = Cancel.create();
  private final ReentrantLock ownUse = new ReentrantLock();
  /** Held while native memory of an event is read: in a batch, that of the batch. */
  private volatile ReentrantLock use = ownUse;
  private volatile Cancel cancel;
  private volatile boolean finished;
  private volatile long tag;

  Generation(Session session, Model draftModel) {
    super(NativeJNI::generationFree, NativeJNI::generationClose, session.memory());
    this.session = session;
    this.draftModel = draftModel;
  }

  @Override
  public void close() {
    super.close();
    stop.close();
  }

  /**
   * The session that it was made on.
   *
   * @return the same object
   */
  public Session session() {
    return session;
  }

  /**
   * Ends the call that runs, or else the next one, with {@link ErrorCode#CANCELLED}. The request goes on when it is
   * called again. Any thread may call this; it does nothing after {@link #close}.
   */
  public void cancel() {
    try {
      stop.request();
    } catch (IllegalStateException closed) {
      // Nothing runs any more.
    }
  }

  /**
   * Sets a flag of the host's that ends calls too, for as long as it is raised.
   *
   * @param flag null: none
   * @return this generation
   */
  public Generation cancelledBy(Cancel flag) {
    cancel = flag;
    return this;
  }

  /**
   * The next event: computes what is missing, chooses a token, and appends it to the session. After the finish it keeps
   * giving the finish, with token -1 and no text.
   *
   * @return an event
   */
  public Event next() {
    final ReentrantLock held = use();
    try {
      final Interruption running = Interruption.enter(stop, cancel);
      try {
        Native.generationNext(this, running.flag(), event);
      } catch (FinermoeException error) {
        throw stopped(error);
      } finally {
        running.leave();
      }
      return given();
    } finally {
      held.unlock();
    }
  }

  /**
   * Ends the request now.
   *
   * @return the text that was held back, with {@link FinishReason#HOST} or the finish that had come before
   */
  public Event finish() {
    final ReentrantLock held = use();
    try {
      Native.generationFinish(this, event);
      return given();
    } finally {
      held.unlock();
    }
  }

  private Event given() {
    final Event made = event.toEvent();
    if (made.finishReason() != FinishReason.NONE) finished = true;
    return made;
  }

  private ReentrantLock use() {
    requireOpen();
    return acquire();
  }

  private ReentrantLock acquire() {
    for (ReentrantLock lock = use; lock.tryLock(); lock = use) {
      if (lock == use) return lock;
      lock.unlock(); // it has joined or left a batch meanwhile
    }
    throw new FinermoeException(Native.ERROR_BUSY, "another thread is using this generation", "", "");
  }

  /** A cancel of {@link #cancel} ends one call. */
  private FinermoeException stopped(FinermoeException error) {
    if (error.code() == ErrorCode.CANCELLED && !stop.isClosed()) stop.reset();
    return error;
  }

  /** From now on the batch's lock is this generation's, or its own again. */
  void use(ReentrantLock lock) {
    final ReentrantLock held = acquire();
    try {
      use = lock == null ? ownUse : lock;
    } finally {
      held.unlock();
    }
  }

  boolean isInBatch() {
    return use != ownUse;
  }

  void finished() {
    finished = true;
  }

  /**
   * The events that are still to come, the last of them with the finish.
   *
   * @return an iterator, which computes
   */
  @Override
  public Iterator<Event> iterator() {
    return new Iterator<>() {
      @Override
      public boolean hasNext() {
        return !finished;
      }

      @Override
      public Event next() {
        if (finished) throw new NoSuchElementException();
        return Generation.this.next();
      }
    };
  }

  @Override
  public Spliterator<Event> spliterator() {
    return Spliterators.spliteratorUnknownSize(iterator(), Spliterator.ORDERED | Spliterator.NONNULL);
  }

  /**
   * The events that are still to come.
   *
   * @return a sequential stream, which computes
   */
  public Stream<Event> stream() {
    return StreamSupport.stream(spliterator(), false);
  }

  /**
   * The text that is still to come.
   *
   * @return all of it
   */
  public String text() {
    final StringBuilder text = new StringBuilder();
    for (Event one : this) text.append(one.text());
    return text.toString();
  }

  /**
   * Appends tokens that the host chose: a tool's result, a forced beginning. They follow what was shown, are no part of
   * any event's text, and the request goes on behind them.
   *
   * @param ids of tokens
   */
  public void append(int[] ids) {
    Native.generationAppend(this, ids);
  }

  /** Computes the logits of the next token without choosing it, so that they can be read and changed. */
  public void prepare() {
    final ReentrantLock held = use();
    try {
      final Interruption running = Interruption.enter(stop, cancel);
      try {
        Native.generationPrepare(this, running.flag());
      } catch (FinermoeException error) {
        throw stopped(error);
      } finally {
        running.leave();
      }
    } finally {
      held.unlock();
    }
  }

  /**
   * The logits that the next token will be chosen from, before any processing; {@link #prepare} first.
   *
   * @return [vocabulary]
   */
  public float[] logits() {
    final float[] logits = new float[Math.toIntExact(session.model().shape().vocabSize())];
    Native.generationGetLogits(this, logits);
    return logits;
  }

  /**
   * Writes the logits that the next token will be chosen from into a buffer; {@link #prepare} first.
   *
   * @param logits [vocabulary] a direct buffer in native order, from its position on
   */
  public void logits(FloatBuffer logits) {
    Native.generationGetLogits(this, Floats.direct(logits));
  }

  /**
   * Replaces the logits for this step; {@link #prepare} first. Log-probabilities stay those of the model.
   *
   * @param logits [vocabulary] {@link Float#NEGATIVE_INFINITY} forbids a token
   */
  public void setLogits(float[] logits) {
    Native.generationSetLogits(this, logits);
  }

  /**
   * The same from a buffer.
   *
   * @param logits [vocabulary] a direct buffer in native order, from its position to its limit
   */
  public void setLogits(FloatBuffer logits) {
    Native.generationSetLogits(this, Floats.direct(logits));
  }

  /**
   * Changes the model that drafts, or takes it away, as {@link GenerationOptions#draft} says: for a request that was
   * resumed and has none. The tokens stay the same.
   *
   * @param model null: none
   * @param n for one pass at most, up to 64; 0: none
   * @return this generation
   */
  public Generation draft(Model model, long n) {
    Native.generationSetDraft(this, model, n);
    draftModel = model;
    return this;
  }

  /**
   * The state of this request, without its session. With {@link Session#save()} it goes on in another process and to
   * the same text, by {@link Session#resume}.
   *
   * @return a new array
   */
  public byte[] save() {
    final byte[][] data = {null};
    Native.generationSaveMemory(this, data);
    return data[0];
  }

  /**
   * How far it has come.
   *
   * @return the present state
   */
  public GenerationInfo info() {
    try (NativeGenerationInfo info = new NativeGenerationInfo()) {
      Native.generationGetInfo(this, info);
      return GenerationInfo.of(info);
    }
  }

  /**
   * A number of the host's own, which a {@link Batch} gives with the events.
   *
   * @param number 0 by default
   * @return this generation
   */
  public Generation tag(long number) {
    Native.generationSetTag(this, number);
    tag = number;
    return this;
  }

  /**
   * The number that was set.
   *
   * @return 0 by default
   */
  public long tag() {
    return tag;
  }

  /**
   * Why the last step of this request failed.
   *
   * @return null where it succeeded
   */
  public FinermoeException error() {
    try {
      Native.generationGetError(this);
      return null;
    } catch (FinermoeException error) {
      return error;
    }
  }
}
