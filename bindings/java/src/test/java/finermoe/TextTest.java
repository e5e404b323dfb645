package finermoe;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Java's strings are UTF-16, the library's UTF-8. */
class TextTest {
  @Test
  void loneSurrogatesBecomeReplacements() {
    assertArrayEquals("a\uFFFDb".getBytes(StandardCharsets.UTF_8), Utf8.encode("a\uD83Db"));
    assertArrayEquals("\uFFFD\uFFFD".getBytes(StandardCharsets.UTF_8), Utf8.encode("\uDE00\uD83D"));
    assertArrayEquals("\uD83D\uDE00\uFFFD".getBytes(StandardCharsets.UTF_8), Utf8.encode("\uD83D\uDE00\uD83D"));
    final byte[] grin = {0, (byte) 0xF0, (byte) 0x9F, (byte) 0x98, (byte) 0x80};
    assertArrayEquals(grin, Utf8.encode("\0\uD83D\uDE00"));
  }

  @Test
  void textsGoInAndOut() {
    try (Tokenizer tokenizer = Tokenizer.open(Models.MOE); Chat chat = Chat.of()) {
      for (String text : new String[] {"", "\0", "a\0b", "\uD83D\uDE00", "\uFFFF", "é", "x".repeat(1 << 20)}) {
        assertEquals(text, tokenizer.decode(tokenizer.encode(text)));
        chat.add(Message.user(text));
        assertEquals(text, chat.get(chat.size() - 1).text());
      }
      assertEquals(ErrorCode.INVALID_ARGUMENT,
          assertThrows(FinermoeException.class, () -> chat.add(new Message("us\0er", "text"))).code());
    }
  }

  @Test
  void pathsOfAnyName(@TempDir Path folder) throws Exception {
    final Path model = Files.createDirectory(Path.of(folder.toString(), "m ode % +"));
    try (Stream<Path> files = Files.list(Models.SMALL)) {
      for (Path file : files.toList()) Files.copy(file, model.resolve(file.getFileName()));
    }
    Model.open(model).close();
    Path strange = null;
    try {
      strange = folder.resolve("modèle \uD83D\uDE00");
    } catch (java.nio.file.InvalidPathException locale) {
      return; // this locale has no such names
    }
    Files.move(model, strange);
    Model.open(strange).close();
    final Path missing = strange.resolve("é");
    final FinermoeException error = assertThrows(FinermoeException.class, () -> Model.open(missing));
    assertEquals(ErrorCode.FILE_NOT_FOUND, error.code());
    assertTrue(error.getMessage().contains("\uD83D\uDE00"), error.getMessage());
  }
}
