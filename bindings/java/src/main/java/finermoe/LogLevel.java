package finermoe;

/** How much a message of the log matters. */
public enum LogLevel {
  /** For those who look for a fault. */
  DEBUG,
  /** Good to know. */
  INFORMATION,
  /** Something is not as it should be. */
  WARNING;

  static LogLevel of(int level) {
    return values()[Math.max(0, Math.min(level, WARNING.ordinal()))];
  }
}
