package finermoe;

import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Set;
import java.util.WeakHashMap;

/**
 * A sequence of tokens and its KV cache.
 *
 * <p>One thread at a time: one that comes while another thread's call runs gets {@link ErrorCode#BUSY}. Any thread may
 * close it: that ends the call that runs, with {@link ErrorCode#CLOSED}, and closes the session's generations.
 * Interrupting a thread ends its call with {@link ErrorCode#CANCELLED}; it stays interrupted.
 */
public final class Session extends NativeObject {
  private final Model model;
  private final Set<Generation> generations = Collections.newSetFromMap(new WeakHashMap<>());
  private volatile Callback progress;
  private volatile Trace trace;

  private Session(Model model, Callback progress) {
    super(NativeJNI::sessionFree, NativeJNI::sessionClose, model.memory());
    this.model = model;
    this.progress = progress;
  }

  static Session of(Model model, SessionOptions options) {
    final Session session = new Session(model, options == null ? null : options.progress);
    Native.sessionCreate(model, options, session);
    return session;
  }

  /** Ends what runs on this session, and closes its generations, but those that a batch still has to report. */
  @Override
  public void close() {
    super.close();
    final List<Generation> made;
    synchronized (generations) {
      made = new ArrayList<>(generations);
    }
    for (Generation generation : made) {
      if (!generation.isInBatch()) generation.close();
    }
  }

  Generation add(Generation generation) {
    synchronized (generations) {
      generations.add(generation);
    }
    return generation;
  }

  /**
   * The model that it was made from.
   *
   * @return the same object
   */
  public Model model() {
    return model;
  }

  // Tokens

  /**
   * Appends tokens and computes them, without keeping logits.
   *
   * @param ids of tokens
   */
  public void append(int[] ids) {
    appendRows(ids, Logits.NONE, null);
  }

  /**
   * Appends tokens and computes them.
   *
   * @param ids    of tokens
   * @param logits which rows are kept
   * @return [kept rows][vocabulary] the kept logits
   */
  public float[][] append(int[] ids, Logits logits) {
    return append(ids, logits, null);
  }

  /**
   * Appends tokens and computes them. After a cancel the session holds the tokens of the chunks that were finished;
   * after another error, those that it held before.
   *
   * @param ids    of tokens
   * @param logits which rows are kept
   * @param cancel null: none
   * @return [kept rows][vocabulary] the kept logits
   */
  public float[][] append(int[] ids, Logits logits, Cancel cancel) {
    return rows(appendRows(ids, logits, cancel));
  }

  /**
   * The same without a copy of the kept rows, for those who read them with {@link #logits} or {@link #hidden}.
   *
   * @param ids    of tokens
   * @param logits which rows are kept
   * @param cancel null: none
   * @return how many rows of logits are kept
   */
  public long appendRows(int[] ids, Logits logits, Cancel cancel) {
    final Interruption running = Interruption.enter(cancel, null);
    try {
      Native.sessionAppend(this, ids, logits.value, running.flag());
    } finally {
      running.leave();
    }
    return logits == Logits.NONE ? 0 : info().nLogits();
  }

  /**
   * The same, keeping chosen rows.
   *
   * @param ids    of tokens
   * @param rows   strictly ascending indices into ids
   * @param cancel null: none
   * @return how many rows of logits are kept
   */
  public long appendRows(int[] ids, long[] rows, Cancel cancel) {
    final Interruption running = Interruption.enter(cancel, null);
    try {
      Native.sessionAppendRows(this, ids, rows, running.flag());
    } finally {
      running.leave();
    }
    return info().nLogits();
  }

  private float[][] rows(long n) {
    final float[][] rows = new float[(int) n][];
    for (int i = 0; i < rows.length; i++) rows[i] = logits(i);
    return rows;
  }

  /**
   * Kept logits of the last append.
   *
   * @param row 0 to the number of kept rows - 1
   * @return [vocabulary]
   */
  public float[] logits(long row) {
    final float[] logits = new float[Math.toIntExact(model.shape().vocabSize())];
    Native.sessionLogits(this, row, logits);
    return logits;
  }

  /**
   * Writes kept logits into a buffer.
   *
   * @param row    0 to the number of kept rows - 1
   * @param logits [vocabulary] a direct buffer in native order, from its position on
   */
  public void logits(long row, FloatBuffer logits) {
    Native.sessionLogits(this, row, Floats.direct(logits));
  }

  /**
   * The hidden state behind the last norm, of a row that the last append kept; needs {@link SessionOptions#hidden}.
   *
   * @param row 0 to the number of kept rows - 1
   * @return [hidden size]
   */
  public float[] hidden(long row) {
    final float[] hidden = new float[Math.toIntExact(model.shape().hiddenSize())];
    Native.sessionHidden(this, row, hidden);
    return hidden;
  }

  /**
   * Writes a hidden state into a buffer.
   *
   * @param row    0 to the number of kept rows - 1
   * @param hidden [hidden size] a direct buffer in native order, from its position on
   */
  public void hidden(long row, FloatBuffer hidden) {
    Native.sessionHidden(this, row, Floats.direct(hidden));
  }

  /**
   * Appends tokens and gives the log-probability of each.
   *
   * @param ids of tokens
   * @return one for each
   */
  public Scores score(int[] ids) {
    return score(ids, null);
  }

  /**
   * Appends tokens and gives the log-probability of each. After any error the session holds what it held before.
   *
   * @param ids    of tokens
   * @param cancel null: none
   * @return one for each
   */
  public Scores score(int[] ids, Cancel cancel) {
    final Object[] scores = {null, null};
    final Interruption running = Interruption.enter(cancel, null);
    try {
      Native.sessionScore(this, ids, running.flag(), scores);
    } finally {
      running.leave();
    }
    return new Scores((float[]) scores[0], (int[]) scores[1]);
  }

  /**
   * What it holds.
   *
   * @return the present state
   */
  public SessionInfo info() {
    try (NativeSessionInfo info = new NativeSessionInfo()) {
      Native.sessionGetInfo(this, info);
      return SessionInfo.of(info);
    }
  }

  /**
   * How many tokens it holds.
   *
   * @return their number
   */
  public long length() {
    return info().length();
  }

  /**
   * The tokens held.
   *
   * @return ids
   */
  public int[] tokens() {
    final int[][] ids = {null};
    Native.sessionTokens(this, ids);
    return ids[0];
  }

  /**
   * Forgets all tokens from one on.
   *
   * @param length how many stay
   */
  public void truncate(long length) {
    Native.sessionTruncate(this, length);
  }

  /** Forgets all tokens. */
  public void reset() {
    Native.sessionReset(this);
  }

  /**
   * Keeps what the session and a sequence have in common from the start, and forgets the rest. Then append ids from
   * there on.
   *
   * @param ids of tokens
   * @return how many tokens the session still holds
   */
  public long keepPrefix(int[] ids) {
    final long[] kept = {0};
    Native.sessionKeepPrefix(this, ids, kept);
    return kept[0];
  }

  /**
   * Removes the tokens [begin, end) and shifts later ones down. These were computed while the removed ones were
   * visible, so this only approximates computing them again.
   *
   * @param begin the first
   * @param end   behind the last
   */
  public void remove(long begin, long end) {
    Native.sessionRemove(this, begin, end);
  }

  /**
   * Sets another context length; tokens are kept. Takes a second cache for the time of the call.
   *
   * @param nTokens at least the present length; 0: the default
   */
  public void setContextLength(long nTokens) {
    Native.sessionSetContextLength(this, nTokens);
  }

  /**
   * Sets another listener.
   *
   * @param listener null: nobody
   */
  public void setProgress(ProgressListener listener) {
    final Callback callback = Callback.of(listener);
    Native.sessionSetProgress(this, callback);
    progress = callback;
  }

  // Copies

  /**
   * A second session that begins as a copy of this one.
   *
   * @return tokens, cache and options are the same; kept rows are not copied
   */
  public Session fork() {
    final Session fork = new Session(model, progress);
    Native.sessionFork(this, fork);
    return fork;
  }

  /**
   * Writes tokens and cache to a file, which appears when it is whole.
   *
   * @param path an older file is replaced
   */
  public void save(Path path) {
    Native.sessionSave(this, path);
  }

  /**
   * The same bytes in memory.
   *
   * @return a new array
   */
  public byte[] save() {
    final byte[][] data = {null};
    Native.sessionSaveMemory(this, data);
    return data[0];
  }

  /**
   * Replaces the content by a saved one of the same model and cache type. A refused file changes nothing.
   *
   * @param path of a saved session
   */
  public void restore(Path path) {
    Native.sessionRestore(this, path);
  }

  /**
   * The same from memory.
   *
   * @param data of {@link #save()}
   */
  public void restore(byte[] data) {
    Native.sessionRestoreMemory(this, data);
  }

  /**
   * The same from a direct or mapped buffer.
   *
   * @param data from its position to its limit
   */
  public void restore(ByteBuffer data) {
    if (!data.isDirect()) throw new IllegalArgumentException("not a direct buffer");
    Native.sessionRestoreMemory(this, data.slice());
  }

  // What the router does

  /**
   * Records what the router does with tokens that are computed later, until the trace is closed.
   *
   * @param kinds what to record; none: everything
   * @return a new trace
   */
  public Trace trace(TraceKind... kinds) {
    final Trace made = Trace.create(model, kinds.length == 0 ? TraceKind.values() : kinds);
    setTrace(made);
    return made;
  }

  /**
   * Records into a trace of the caller's.
   *
   * @param trace null: stop
   * @throws FinermoeException {@link ErrorCode#STATE} for a trace that records another session
   */
  public void setTrace(Trace trace) {
    Native.sessionSetTrace(this, trace);
    this.trace = trace;
    if (trace != null) trace.records(this);
  }

  /** Recording ends with the trace, as far as this session can still be asked. */
  void stop(Trace closed) {
    if (trace != closed || isClosed()) return;
    try {
      setTrace(null);
    } catch (FinermoeException | IllegalStateException busyOrClosed) {
      // It goes on into a trace that nobody can read.
    }
  }

  // Generation

  /**
   * A request with the model's defaults.
   *
   * @param prompt a text, appended to what the session holds
   * @return its events
   */
  public Generation generate(String prompt) {
    return generate(prompt, null);
  }

  /**
   * A request. Nothing is computed before its first event is asked for.
   *
   * @param prompt  a text, appended to what the session holds
   * @param options copied; null: the model's defaults
   * @param flags   {@link TextFlag#PARSE_SPECIAL}, {@link TextFlag#NO_SPECIAL_TOKENS}
   * @return its events
   */
  public Generation generate(String prompt, GenerationOptions options, TextFlag... flags) {
    final Generation generation = new Generation(this, GenerationOptions.draftModelOf(options));
    Native.generationCreateText(this, options, prompt, TextFlag.bits(flags), generation);
    return add(generation);
  }

  /**
   * A request.
   *
   * @param ids     appended to what the session holds; at least one, unless the session holds a token to continue from
   * @param options copied; null: the model's defaults
   * @return its events
   */
  public Generation generate(int[] ids, GenerationOptions options) {
    final Generation generation = new Generation(this, GenerationOptions.draftModelOf(options));
    Native.generationCreate(this, options, ids, generation);
    return add(generation);
  }

  /**
   * An answer to a chat, with the model's defaults.
   *
   * @param chat with at least one message
   * @return its events
   */
  public Generation chat(Chat chat) {
    return chat(chat, null);
  }

  /**
   * An answer to a chat. What the session holds of its rendering is kept and not computed again; what it holds beyond
   * that is forgotten.
   *
   * @param chat    with at least one message
   * @param options copied; null: the model's defaults
   * @param flags   {@link TextFlag#CONTINUE_LAST} to go on with the last message, {@link TextFlag#NO_GENERATION_PROMPT}
   * @return its events
   */
  public Generation chat(Chat chat, GenerationOptions options, TextFlag... flags) {
    final Generation generation = new Generation(this, GenerationOptions.draftModelOf(options));
    Native.generationCreateChat(this, options, chat, TextFlag.bits(flags), generation);
    return add(generation);
  }

  /**
   * A request that goes on where one was saved, on a session that holds the same tokens as the other did then.
   *
   * @param data of {@link Generation#save}
   * @return its events
   */
  public Generation resume(byte[] data) {
    final Generation generation = new Generation(this, null);
    Native.generationRestoreMemory(this, data, generation);
    return add(generation);
  }
}
