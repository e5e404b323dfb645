package finermoe;

/** Kinds of tokens. */
public enum TokenKind {
  /** Of the vocabulary. */
  NORMAL(Native.TOKEN_NORMAL),
  /** Added, matched in any text. */
  ADDED(Native.TOKEN_ADDED),
  /** Added and special: matched only with {@link TextFlag#PARSE_SPECIAL}. */
  SPECIAL(Native.TOKEN_SPECIAL),
  /** An id without a token. */
  UNUSED(Native.TOKEN_UNUSED),
  /** A number that this version does not know. */
  UNKNOWN(Integer.MIN_VALUE);

  final int value;

  TokenKind(int value) {
    this.value = value;
  }

  static TokenKind of(int value) {
    for (TokenKind one : values()) {
      if (one.value == value) return one;
    }
    return UNKNOWN;
  }
}
