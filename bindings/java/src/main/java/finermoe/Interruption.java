package finermoe;

import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.spi.AbstractSelectableChannel;
import java.nio.channels.spi.AbstractSelector;
import java.util.Set;

/**
 * Ends a native call when its thread is interrupted, or when a flag of the host's is raised.
 *
 * <p>Java tells a selector at once when a thread that blocks on it is interrupted, by {@link #wakeup}; nothing of a
 * selector but that is used here.
 */
final class Interruption extends AbstractSelector {
  private static final ThreadLocal<Interruption> OF_THREAD = new ThreadLocal<>();

  private final Cancel flag = Cancel.create();
  private volatile boolean raised;
  private boolean inUse;
  private Cancel first;
  private Cancel second;

  private Interruption() {
    super(null);
  }

  /** For one call of this thread, which {@link #leave} ends. The flags of the host may be null. */
  static Interruption enter(Cancel first, Cancel second) {
    Interruption interruption = OF_THREAD.get();
    if (interruption == null || interruption.inUse) { // in use: a callback makes another call
      interruption = new Interruption();
      if (OF_THREAD.get() == null) OF_THREAD.set(interruption);
    }
    interruption.inUse = true;
    interruption.begin();
    try {
      if (first != null) first.add(interruption);
      interruption.first = first;
      if (second != null) second.add(interruption);
      interruption.second = second;
      return interruption;
    } catch (RuntimeException closed) {
      interruption.leave();
      throw closed;
    }
  }

  void leave() {
    if (first != null) first.remove(this);
    if (second != null) second.remove(this);
    first = null;
    second = null;
    end();
    if (raised) flag.reset();
    raised = false;
    inUse = false;
  }

  /** What the native call looks at. */
  Cancel flag() {
    return flag;
  }

  @Override
  public Selector wakeup() {
    raised = true;
    flag.request();
    return this;
  }

  @Override
  protected void implCloseSelector() {}

  @Override
  protected SelectionKey register(AbstractSelectableChannel channel, int operations, Object attachment) {
    throw new UnsupportedOperationException();
  }

  @Override
  public Set<SelectionKey> keys() {
    throw new UnsupportedOperationException();
  }

  @Override
  public Set<SelectionKey> selectedKeys() {
    throw new UnsupportedOperationException();
  }

  @Override
  public int selectNow() {
    throw new UnsupportedOperationException();
  }

  @Override
  public int select(long timeout) {
    throw new UnsupportedOperationException();
  }

  @Override
  public int select() {
    throw new UnsupportedOperationException();
  }
}
