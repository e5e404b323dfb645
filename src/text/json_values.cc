#include "text/json_values.h"

namespace finermoe {

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

bool is(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}

std::string show(const Json& value) {
  const Json& shown = value.is_object() && value.contains("type") ? value["type"] : value;
  std::string text = shown.show();
  return text.size() > 200 ? text.substr(0, 200) + "..." : text;
}

Status malformed_tokenizer(std::string message) {
  return Status(FINERMOE_ERROR_TOKENIZER_MALFORMED, std::move(message));
}

Status unsupported_component(std::string_view component, std::string expected, std::string found) {
  std::string message = format_text(component, " is ", found, "; supported: ", expected);
  return Status(FINERMOE_ERROR_TOKENIZER_COMPONENT, std::move(message), std::move(expected), std::move(found));
}

}  // namespace finermoe
