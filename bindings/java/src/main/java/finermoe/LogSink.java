package finermoe;

/**
 * Takes the library's messages, on the thread that made the call. An exception that it throws comes out of that call.
 */
@FunctionalInterface
public interface LogSink {
  /**
   * Takes a message.
   *
   * @param level   how much it matters
   * @param message one line
   */
  void log(LogLevel level, String message);
}
