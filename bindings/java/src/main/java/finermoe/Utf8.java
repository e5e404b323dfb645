package finermoe;

import java.io.ByteArrayOutputStream;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.CodingErrorAction;
import java.nio.charset.StandardCharsets;
import java.nio.file.FileSystems;
import java.nio.file.Path;
import java.util.Arrays;

/** Text and paths as the library's bytes. */
final class Utf8 {
  private static final byte[] REPLACEMENT = "\uFFFD".getBytes(StandardCharsets.UTF_8);

  private Utf8() {}

  /** A lone surrogate becomes U+FFFD. */
  static byte[] encode(String text) {
    if (text == null) return null;
    if (text.chars().noneMatch(unit -> Character.isSurrogate((char) unit))) {
      return text.getBytes(StandardCharsets.UTF_8);
    }
    try {
      final ByteBuffer bytes = StandardCharsets.UTF_8.newEncoder()
          .onMalformedInput(CodingErrorAction.REPLACE).replaceWith(REPLACEMENT).encode(CharBuffer.wrap(text));
      return Arrays.copyOf(bytes.array(), bytes.limit());
    } catch (CharacterCodingException impossible) {
      throw new IllegalStateException(impossible);
    }
  }

  static String decode(byte[] bytes) {
    return bytes == null ? null : new String(bytes, StandardCharsets.UTF_8);
  }

  /** For what ends with a NUL in C. */
  static byte[] terminated(String text) {
    if (text == null) return null;
    if (text.indexOf(0) >= 0) {
      throw new FinermoeException(Native.ERROR_INVALID_ARGUMENT, "a text with a NUL inside", "a text without", "NUL");
    }
    final byte[] bytes = encode(text);
    return Arrays.copyOf(bytes, bytes.length + 1);
  }

  /** The bytes of a path, whatever the locale: a URI quotes those that are no ASCII. */
  static byte[] path(Path path) {
    if (path == null) return null;
    if (path.getFileSystem() != FileSystems.getDefault()) {
      throw new UnsupportedOperationException("a path of another file system: " + path);
    }
    final String text = path.toString();
    if (text.chars().allMatch(unit -> unit < 128)) return terminated(text);
    final String quoted = path.toUri().getRawPath();
    final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    for (int i = 0; i < quoted.length(); i++) {
      final char unit = quoted.charAt(i);
      bytes.write(unit == '%' ? Integer.parseInt(quoted, i + 1, i + 3, 16) : unit);
      if (unit == '%') i += 2;
    }
    bytes.write(0);
    return bytes.toByteArray();
  }
}
