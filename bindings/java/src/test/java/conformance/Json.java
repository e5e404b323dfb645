package conformance;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonPrimitive;
import java.math.BigDecimal;

/** Results as JSON, and how they are compared. */
final class Json {
  private static final Gson GSON = new GsonBuilder().serializeNulls().serializeSpecialFloatingPointValues().create();

  private Json() {}

  static JsonElement of(Object value) {
    return GSON.toJsonTree(value);
  }

  static boolean equal(JsonElement expected, JsonElement found) {
    if (expected instanceof JsonArray list) {
      if (!(found instanceof JsonArray other) || list.size() != other.size()) return false;
      for (int i = 0; i < list.size(); i++) {
        if (!equal(list.get(i), other.get(i))) return false;
      }
      return true;
    }
    if (expected instanceof JsonObject object) {
      if (!(found instanceof JsonObject other) || !object.keySet().equals(other.keySet())) return false;
      return object.keySet().stream().allMatch(key -> equal(object.get(key), other.get(key)));
    }
    if (expected instanceof JsonPrimitive one && one.isNumber()) {
      return found instanceof JsonPrimitive other && other.isNumber() && equal(one, other);
    }
    return expected.equals(found);
  }

  /** Numbers with a fraction to within 1e-4. */
  private static boolean equal(JsonPrimitive expected, JsonPrimitive found) {
    final BigDecimal number = expected.getAsBigDecimal();
    if (number.stripTrailingZeros().scale() <= 0 && !expected.getAsString().contains(".")) {
      return number.compareTo(found.getAsBigDecimal()) == 0;
    }
    return Math.abs(number.doubleValue() - found.getAsDouble()) <= 1e-4;
  }
}
