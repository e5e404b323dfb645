package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.gson.JsonElement;
import com.google.gson.JsonParser;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;

/** The binding has all of the header, and says so. */
class NamesTest {
  @Test
  void everyNameOfTheTableIsPublic() throws Exception {
    final List<String> missing = new ArrayList<>();
    final String table = Files.readString(Path.of(System.getProperty("finermoe.names")));
    final Map<String, JsonElement> names = JsonParser.parseString(table).getAsJsonObject().asMap();
    for (JsonElement element : names.values()) {
      final String[] name = element.getAsString().split("\\.");
      final Class<?> type = Class.forName("finermoe." + name[0]);
      final boolean hasMethod = name.length == 1
          || Arrays.stream(type.getMethods()).anyMatch(method -> method.getName().equals(name[1]));
      if (!hasMethod || !Modifier.isPublic(type.getModifiers())) missing.add(element.getAsString());
    }
    assertEquals(List.of(), missing);
    assertTrue(names.size() > 200);
  }

  /** Each constant of the header belongs to one of these, with its own name and number, and in its place. */
  @Test
  void everyConstantIsAnEnumerator() throws Exception {
    final Map<String, Enum<?>[]> enums = new TreeMap<>((a, b) -> b.length() == a.length() ? a.compareTo(b)
        : b.length() - a.length());
    enums.put("DTYPE_", DType.values());
    enums.put("ISA_", Isa.values());
    enums.put("DEVICE_", DeviceKind.values());
    enums.put("LOCK_", Lock.values());
    enums.put("PREFETCH_", Prefetch.values());
    enums.put("PRECISION_", Precision.values());
    enums.put("HIDDEN_", Hidden.values());
    enums.put("LOGITS_", Logits.values());
    enums.put("TRACE_", TraceKind.values());
    enums.put("TOKEN_", TokenKind.values());
    enums.put("FINISH_", FinishReason.values());
    enums.put("CONCAT_PROJ_", ConcatProj.values());
    enums.put("ROUTER_INIT_", RouterInit.values());
    final List<String> missing = new ArrayList<>();
    for (Field field : NativeConstants.class.getFields()) {
      final String name = field.getName();
      final int number = field.getInt(null);
      if (name.equals("OK") || name.equals("TEXT_DEFAULT")) continue;
      final boolean isThere;
      if (name.startsWith("ERROR_")) {
        isThere = ErrorCode.of(number).name().equals(name.substring("ERROR_".length()));
      } else if (name.startsWith("TEXT_")) {
        isThere = TextFlag.bits(TextFlag.valueOf(name.substring("TEXT_".length()))) == number;
      } else {
        final String prefix = enums.keySet().stream().filter(name::startsWith).findFirst().orElse("");
        isThere = Arrays.stream(enums.getOrDefault(prefix, new Enum<?>[0]))
            .anyMatch(one -> (prefix + one.name()).equals(name) && hasValue(one, number));
      }
      if (!isThere) missing.add(name);
    }
    assertEquals(List.of(), missing);
  }

  private static boolean hasValue(Enum<?> one, int number) {
    try {
      return one.getClass().getDeclaredField("value").getInt(one) == number;
    } catch (ReflectiveOperationException error) {
      throw new AssertionError(error);
    }
  }

  @Test
  void whatANewerLibrarySaysIsUnknown() {
    final int number = 99;
    assertEquals(Isa.UNKNOWN, Isa.of(number));
    assertEquals(DType.UNKNOWN, DType.of(number));
    assertEquals(DeviceKind.UNKNOWN, DeviceKind.of(number));
    assertEquals(TokenKind.UNKNOWN, TokenKind.of(number));
    assertEquals(Precision.UNKNOWN, Precision.of(number));
    assertEquals(FinishReason.UNKNOWN, FinishReason.of(number));
    assertEquals(ErrorCode.UNKNOWN, ErrorCode.of(-number));
    final NativeEvent event = new NativeEvent();
    event.finishReason = number;
    assertEquals(FinishReason.UNKNOWN, event.toEvent().finishReason());
    final RuntimeOptions options = RuntimeOptions.create();
    final FinermoeException refused = assertThrows(FinermoeException.class, () -> options.isa(Isa.UNKNOWN));
    assertEquals(ErrorCode.INVALID_ARGUMENT, refused.code());
  }

  @Test
  void theVersionIsTheLibrarys() {
    assertEquals(System.getProperty("finermoe.version"), Finermoe.version());
    assertTrue(Finermoe.abiVersion() >= 0);
  }
}
