package finermoe;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.io.FileDescriptor;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.nio.ByteBuffer;
import java.nio.FloatBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.io.TempDir;

/** Every public method with senseless arguments: an exception at most. */
class AnyInputTest {
  private final List<String> unexpected = new ArrayList<>();
  private int calls;

  private Map<Class<?>, List<Object>> values(Path folder) {
    return Map.of(long.class, List.of(0L, -1L, 3L, Long.MAX_VALUE, Long.MIN_VALUE), int.class,
        List.of(0, -1, 3, Integer.MAX_VALUE, Integer.MIN_VALUE), double.class,
        List.of(0.0, -1.0, Double.NaN, Double.POSITIVE_INFINITY), float.class, List.of(0f, Float.NaN), boolean.class,
        List.of(true, false), String.class, List.of("", "\0", "text"), int[].class,
        List.of(new int[0], new int[] {-1}, new int[] {1, 2}), Path.class,
        List.of(Path.of(""), folder.resolve("none")));
  }

  private static Object[] objects(Model model, Session session) {
    return new Object[] {model, session, session.generate("A ship"), model.batch(), Chat.of(Message.user("Hello")),
        model.tokenizer(), model.tokenizer().decoder(), Sampler.create(null), session.trace(), model.config(),
        model.runtime(), GenerationOptions.of(model), ModelOptions.create(), SessionOptions.create(),
        RuntimeOptions.create(), PlanOptions.create(), WriterOptions.create(), UpcycleOptions.preset(null),
        QuantizeOptions.of(DType.Q8),
        Cancel.create()};
  }

  @Test
  void nothingCrashes(@TempDir Path folder) throws Exception {
    final Map<Class<?>, List<Object>> values = values(folder);
    for (int round = 0; round < 5; round++) {
      try (Model model = Models.open(); Session session = model.session(SessionOptions.create().contextLength(16))) {
        for (Object object : objects(model, session)) {
          for (Method method : object.getClass().getMethods()) {
            final boolean isOurs = NativeObject.class.isAssignableFrom(method.getDeclaringClass());
            if (!isOurs || method.getName().equals("close")) continue;
            call(Modifier.isStatic(method.getModifiers()) ? null : object, method, values, round);
          }
        }
      }
    }
    for (Class<?> type : List.of(Finermoe.class, Checkpoints.class)) {
      for (Method method : type.getDeclaredMethods()) {
        if (Modifier.isPublic(method.getModifiers())) call(null, method, values, 0);
      }
    }
    assertEquals(List.of(), unexpected);
    assertTrue(calls > 500, calls + " calls");
  }

  private void call(Object object, Method method, Map<Class<?>, List<Object>> values, int round) throws Exception {
    final Object[] arguments = new Object[method.getParameterCount()];
    for (int i = 0; i < arguments.length; i++) {
      final Class<?> type = method.getParameterTypes()[i];
      final List<Object> known = values.get(type);
      if (known != null && (type.isPrimitive() || round > 0)) arguments[i] = known.get((round + i) % known.size());
      if (type == ByteBuffer.class && round == 1) arguments[i] = ByteBuffer.allocateDirect(3);
      if (type == FloatBuffer.class && round == 1) arguments[i] = FloatBuffer.allocate(3);
      if (type == float[].class && round == 1) arguments[i] = new float[3];
      if (type == byte[].class && round == 1) arguments[i] = new byte[3];
      if (type == FileDescriptor.class && round == 1) arguments[i] = new FileDescriptor();
      if (type == TextFlag[].class) arguments[i] = round == 2 ? TextFlag.values() : new TextFlag[0];
    }
    calls++;
    try {
      method.invoke(object, arguments);
    } catch (InvocationTargetException error) {
      if (!(error.getCause() instanceof RuntimeException)) unexpected.add(method + ": " + error.getCause());
    }
  }
}
