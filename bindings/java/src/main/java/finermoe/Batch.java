package finermoe;

import java.util.Iterator;
import java.util.List;
import java.util.NoSuchElementException;
import java.util.Spliterator;
import java.util.Spliterators;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.locks.ReentrantLock;
import java.util.stream.Stream;
import java.util.stream.StreamSupport;

/**
 * Generations of one model that advance together, one pass over the weights for all. Members may join and leave between
 * any two steps.
 *
 * <p>One thread at a time: one that comes while another thread's call runs gets {@link ErrorCode#BUSY}, also with a
 * member. Any thread may {@link #cancel} or close it.
 */
public final class Batch extends NativeObject implements Iterable<Batch.Item> {
  /**
   * What happened to one member.
   *
   * @param tag   the member's
   * @param event its event
   * @param error why it cannot go on, with {@link FinishReason#ERROR}; else null
   */
  public record Item(long tag, Event event, FinermoeException error) {}

  /** @param owned made by the batch, and closed by it with its session */
  private record Member(Generation generation, boolean owned) {
    boolean hasEnded() {
      if (generation.isClosed()) return true;
      final GenerationInfo info = generation.info();
      return info.finishReason() != FinishReason.NONE || info.status() != null;
    }

    FinermoeException error() {
      return generation.isClosed() ? new FinermoeException(Native.ERROR_CLOSED, "the generation was closed", "", "")
          : generation.error();
    }

    void leave() {
      generation.finished();
      generation.use(null);
      if (owned) generation.session().close();
      if (generation.session().isClosed()) generation.close();
    }
  }

  private final Model model;
  private final SessionOptions options;
  private final List<Member> members = new CopyOnWriteArrayList<>();
  private final ReentrantLock use = new ReentrantLock();
  private final Cancel stop = Cancel.create();
  private final NativeEvent event = new NativeEvent();
  private volatile Cancel cancel;

  private Batch(Model model, SessionOptions options) {
    super(NativeJNI::batchFree, NativeJNI::batchClose, model.memory());
    this.model = model;
    this.options = options;
  }

  static Batch of(Model model, SessionOptions options) {
    final Batch batch = new Batch(model, options);
    Native.batchCreate(model, batch);
    return batch;
  }

  /** Ends what runs, and closes the sessions that the batch has made. */
  @Override
  public void close() {
    super.close();
    stop.close();
    for (Member member : members) {
      if (member.owned) member.generation.close();
      if (member.owned) member.generation.session().close();
    }
  }

  /**
   * Adds a request with a session of its own, which the batch closes at the end.
   *
   * @param prompt  a text
   * @param tag     a number of the host's own, which comes with the events
   * @param options null: the model's defaults
   * @return the request
   */
  public Generation add(String prompt, long tag, GenerationOptions options) {
    return own(tag, session -> session.generate(prompt, options));
  }

  /**
   * Adds a request with a session of its own, which the batch closes at the end.
   *
   * @param ids     a prompt
   * @param tag     a number of the host's own, which comes with the events
   * @param options null: the model's defaults
   * @return the request
   */
  public Generation add(int[] ids, long tag, GenerationOptions options) {
    return own(tag, session -> session.generate(ids, options));
  }

  /**
   * Adds a request with a session of its own, which the batch closes at the end.
   *
   * @param chat    a conversation
   * @param tag     a number of the host's own, which comes with the events
   * @param options null: the model's defaults
   * @return the request
   */
  public Generation add(Chat chat, long tag, GenerationOptions options) {
    return own(tag, session -> session.chat(chat, options));
  }

  private interface Request {
    Generation on(Session session);
  }

  private Generation own(long tag, Request request) {
    final Session session = model.session(options);
    try {
      return add(request.on(session).tag(tag), true);
    } catch (RuntimeException error) {
      session.close();
      throw error;
    }
  }

  /**
   * Adds a request of the caller's. Two on one session are refused, and so are sessions of different precision.
   *
   * @param generation should be in one batch only; stays the caller's
   */
  public void add(Generation generation) {
    add(generation, false);
  }

  private Generation add(Generation generation, boolean owned) {
    Native.batchAdd(this, generation);
    generation.use(use);
    members.add(new Member(generation, owned));
    return generation;
  }

  /**
   * Takes a member out. One that the batch has made is closed.
   *
   * @param generation a member
   */
  public void remove(Generation generation) {
    Native.batchRemove(this, generation);
    for (Member member : members) {
      if (member.generation != generation) continue;
      members.remove(member);
      generation.use(null);
      if (member.owned) generation.session().close();
    }
  }

  /**
   * One pass over the weights for every member that is not prepared. Then ask the prepared ones for their next event
   * ({@link Generation#info} tells which are).
   *
   * @return how many members have not finished and can go on; 0: nothing is left to do
   */
  public long step() {
    final long[] active = {0};
    use();
    try {
      final Interruption running = Interruption.enter(stop, cancel);
      try {
        Native.batchStep(this, running.flag(), active);
      } catch (FinermoeException error) {
        throw stopped(error);
      } finally {
        running.leave();
      }
    } finally {
      use.unlock();
    }
    return active[0];
  }

  /**
   * The next event of any member. One leaves the batch with its last event, whether that is its finish or
   * {@link FinishReason#ERROR}, which the others do not notice.
   *
   * @return null when no member is left
   */
  public Item next() {
    final long[] tag = {0};
    use();
    try {
      final Interruption running = Interruption.enter(stop, cancel);
      try {
        Native.batchNext(this, running.flag(), tag, event);
      } catch (FinermoeException error) {
        throw stopped(error);
      } finally {
        running.leave();
      }
      final Event made = event.toEvent();
      if (made.finishReason() != FinishReason.NONE) return last(tag[0], made);
      return made.token() < 0 ? null : new Item(tag[0], made, null);
    } finally {
      use.unlock();
    }
  }

  private Item last(long tag, Event made) {
    for (Member member : members) {
      if (member.generation.tag() != tag || !member.hasEnded()) continue;
      final FinermoeException error = made.finishReason() == FinishReason.ERROR ? member.error() : null;
      members.remove(member);
      member.leave();
      return new Item(tag, made, error);
    }
    return new Item(tag, made, null);
  }

  private void use() {
    requireOpen();
    if (!use.tryLock()) throw new FinermoeException(Native.ERROR_BUSY, "another thread is using this batch", "", "");
  }

  private FinermoeException stopped(FinermoeException error) {
    if (error.code() == ErrorCode.CANCELLED && !stop.isClosed()) stop.reset();
    return error;
  }

  /** Ends the call that runs, or else the next one, with {@link ErrorCode#CANCELLED}; it goes on when called again. */
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
   * @return this batch
   */
  public Batch cancelledBy(Cancel flag) {
    cancel = flag;
    return this;
  }

  /**
   * The events that are still to come, of whoever has one next.
   *
   * @return an iterator, which computes
   */
  @Override
  public Iterator<Item> iterator() {
    return new Iterator<>() {
      private Item ahead;

      @Override
      public boolean hasNext() {
        if (ahead == null) ahead = Batch.this.next();
        return ahead != null;
      }

      @Override
      public Item next() {
        if (!hasNext()) throw new NoSuchElementException();
        final Item item = ahead;
        ahead = null;
        return item;
      }
    };
  }

  @Override
  public Spliterator<Item> spliterator() {
    return Spliterators.spliteratorUnknownSize(iterator(), Spliterator.ORDERED | Spliterator.NONNULL);
  }

  /**
   * The events that are still to come.
   *
   * @return a sequential stream, which computes
   */
  public Stream<Item> stream() {
    return StreamSupport.stream(spliterator(), false);
  }
}
