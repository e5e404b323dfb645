package finermoe;

/**
 * Hears how far a long call has come, on the thread that made the call. An exception that it throws cancels the call
 * and comes out of it.
 */
@FunctionalInterface
public interface ProgressListener {
  /**
   * Takes notice.
   *
   * @param phase what is being done, one or two words in lower case, such as "prefill"
   * @param done  units finished (bytes; tokens when prefilling), of
   * @param total units in this phase
   * @return true to go on, false to cancel the call, which throws {@link ErrorCode#CANCELLED}
   */
  boolean progress(String phase, long done, long total);
}
