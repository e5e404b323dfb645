package finermoe;

/** Choices of the calls that turn text into ids, or ids into text. */
public enum TextFlag {
  /** Encoding: special tokens in the text become their ids. */
  PARSE_SPECIAL(Native.TEXT_PARSE_SPECIAL),
  /** Decoding: special tokens are written out instead of left out. */
  SHOW_SPECIAL(Native.TEXT_SHOW_SPECIAL),
  /** Chat: the assistant's turn is not opened at the end. */
  NO_GENERATION_PROMPT(Native.TEXT_NO_GENERATION_PROMPT),
  /** Encoding: the special tokens that the tokenizer puts around a text (BOS, EOS) are left out. */
  NO_SPECIAL_TOKENS(Native.TEXT_NO_SPECIAL_TOKENS),
  /** Chat: the last message is left open at its end, to be gone on with. */
  CONTINUE_LAST(Native.TEXT_CONTINUE_LAST);

  private final int bit;

  TextFlag(int bit) {
    this.bit = bit;
  }

  static int bits(TextFlag... flags) {
    int bits = Native.TEXT_DEFAULT;
    for (TextFlag flag : flags) bits |= flag.bit;
    return bits;
  }
}
