package finermoe;

/** Ids to text as they come, never a part of a character. One thread at a time; others wait. */
public final class Decoder extends NativeObject {
  private Decoder() {
    super(NativeJNI::decoderFree);
  }

  static Decoder of(Tokenizer tokenizer, TextFlag... flags) {
    final Decoder decoder = new Decoder();
    Native.decoderCreate(tokenizer, TextFlag.bits(flags), decoder);
    return decoder;
  }

  /**
   * Takes one id.
   *
   * @param id of a token
   * @return the text that became complete by it, often ""
   */
  public String push(int id) {
    final byte[][] text = {null};
    Native.decoderPush(this, id, text);
    return Utf8.decode(text[0]);
  }

  /**
   * Ends the text; the decoder begins anew.
   *
   * @return U+FFFD for an unfinished character, or ""
   */
  public String flush() {
    final byte[][] text = {null};
    Native.decoderFlush(this, text);
    return Utf8.decode(text[0]);
  }
}
