package finermoe;

import java.nio.file.Path;
import java.util.OptionalInt;

/** A byte-level BPE tokenizer, usable without weights. Immutable; any number of threads may use it at once. */
public final class Tokenizer extends NativeObject {
  private Tokenizer(Object memory) {
    super(NativeJNI::tokenizerFree, null, memory);
  }

  /**
   * Reads a tokenizer.
   *
   * @param path a folder with tokenizer.json (or vocab.json and merges.txt), the tokenizer.json itself, or a
   *             single-file model
   * @return a new one
   */
  public static Tokenizer open(Path path) {
    final Tokenizer tokenizer = new Tokenizer(null);
    Native.tokenizerOpen(path, tokenizer);
    return tokenizer;
  }

  /**
   * Reads a tokenizer from memory.
   *
   * @param json       the text of a tokenizer.json
   * @param configJson the text of a tokenizer_config.json, or null
   * @return a new one
   */
  public static Tokenizer parse(String json, String configJson) {
    final Tokenizer tokenizer = new Tokenizer(null);
    Native.tokenizerOpenMemory(json, configJson, tokenizer);
    return tokenizer;
  }

  static Tokenizer of(Model model) {
    final Tokenizer tokenizer = new Tokenizer(model.memory());
    Native.tokenizerOpenModel(model, tokenizer);
    return tokenizer;
  }

  /**
   * What is known of it.
   *
   * @return its fields
   */
  public TokenizerInfo info() {
    try (NativeTokenizerInfo info = new NativeTokenizerInfo()) {
      Native.tokenizerGetInfo(this, info);
      return TokenizerInfo.of(info);
    }
  }

  /**
   * Text to ids. A lone surrogate counts as U+FFFD.
   *
   * @param text  any
   * @param flags {@link TextFlag#PARSE_SPECIAL}, {@link TextFlag#NO_SPECIAL_TOKENS}
   * @return ids of tokens
   */
  public int[] encode(String text, TextFlag... flags) {
    return encodeWithOffsets(text, flags).ids();
  }

  /**
   * Text to ids, with the place of each.
   *
   * @param text  any
   * @param flags {@link TextFlag#PARSE_SPECIAL}, {@link TextFlag#NO_SPECIAL_TOKENS}
   * @return ids and offsets
   */
  public Encoding encodeWithOffsets(String text, TextFlag... flags) {
    final Object[] encoding = {null, null};
    Native.tokenizerEncode(this, text, TextFlag.bits(flags), encoding);
    return new Encoding((int[]) encoding[0], (long[]) encoding[1]);
  }

  /**
   * How many ids {@link #encode} would give.
   *
   * @param text  any
   * @param flags {@link TextFlag#PARSE_SPECIAL}, {@link TextFlag#NO_SPECIAL_TOKENS}
   * @return their number
   */
  public long count(String text, TextFlag... flags) {
    final long[] count = {0};
    Native.tokenizerCount(this, text, TextFlag.bits(flags), count);
    return count[0];
  }

  /**
   * Ids to text. Ids without a token give nothing; bytes that are not UTF-8 give U+FFFD.
   *
   * @param ids   of tokens
   * @param flags {@link TextFlag#SHOW_SPECIAL}
   * @return the text
   */
  public String decode(int[] ids, TextFlag... flags) {
    final byte[][] text = {null};
    Native.tokenizerDecode(this, ids, TextFlag.bits(flags), text);
    return Utf8.decode(text[0]);
  }

  /**
   * One token.
   *
   * @param id of the token
   * @return its bytes and kind
   */
  public Token token(int id) {
    final byte[][] bytes = {null};
    final int[] kind = {0};
    Native.tokenizerToken(this, id, bytes, kind);
    return new Token(bytes[0], TokenKind.of(kind[0]));
  }

  /**
   * The token with exactly these bytes.
   *
   * @param bytes of the token
   * @return its id, or empty where there is none
   */
  public OptionalInt find(byte[] bytes) {
    final int[] id = {-1};
    Native.tokenizerFind(this, bytes, id);
    return id[0] < 0 ? OptionalInt.empty() : OptionalInt.of(id[0]);
  }

  /**
   * Turns ids into text as they come.
   *
   * @param flags {@link TextFlag#SHOW_SPECIAL}
   * @return a new decoder
   */
  public Decoder decoder(TextFlag... flags) {
    return Decoder.of(this, flags);
  }
}
