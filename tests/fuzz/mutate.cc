#include "mutate.h"

#include <algorithm>
#include <cstring>
#include <iterator>
#include <nlohmann/json.hpp>

namespace fuzz {
namespace {

using Json = nlohmann::ordered_json;

// Parsing and writing recurse.
bool is_deep(std::string_view text) {
  int depth = 0, deepest = 0;
  for (char c : text) {
    if (c == '[' || c == '{') deepest = std::max(deepest, ++depth);
    if (c == ']' || c == '}') depth--;
  }
  return deepest > 50;
}

// Values at and beyond the ends of what is allowed.
const Json& interesting(Mutator& mutator) {
  static const std::vector<Json> values = {0,
                                           1,
                                           -1,
                                           2,
                                           3,
                                           7,
                                           64,
                                           255,
                                           4096,
                                           50000000,
                                           2147483647,
                                           2147483648,
                                           1LL << 53,
                                           INT64_MAX,
                                           INT64_MIN,
                                           UINT64_MAX,
                                           0.0,
                                           0.5,
                                           1.0,
                                           1.1,
                                           -0.5,
                                           20.0,
                                           1e-6,
                                           1e19,
                                           1e308,
                                           5e-324,
                                           true,
                                           false,
                                           nullptr,
                                           "",
                                           "x",
                                           "1",
                                           Json::array(),
                                           Json::object(),
                                           {1, 2}};
  return values[mutator.below(values.size())];
}

void collect(Json& value, std::vector<Json*>& all) {
  all.push_back(&value);
  if (!value.is_structured()) return;
  for (Json& inner : value) collect(inner, all);
}

void change_members(Json& value, Json& other, Mutator& mutator) {
  const size_t at = value.empty() ? 0 : mutator.below(value.size());
  if (value.is_array()) {
    switch (mutator.below(3)) {
      case 0:
        if (!value.empty()) value.erase(at);
        break;
      case 1:
        value.insert(std::next(value.begin(), static_cast<std::ptrdiff_t>(at)), Json(other));
        break;
      default:
        value.push_back(value.empty() ? interesting(mutator) : Json(value[at]));
    }
    return;
  }
  if (value.empty()) return;
  auto member = std::next(value.begin(), static_cast<std::ptrdiff_t>(at));
  const std::string name = member.key();
  if (mutator.below(2) == 0) {
    value.erase(member);
  } else {
    const Json moved = member.value();
    value[mutator.bytes(name, 8)] = moved;
  }
}

void change(Json& value, Json& other, Mutator& mutator) {
  const size_t how = mutator.below(8);
  if (how == 0) {
    value = interesting(mutator);
  } else if (how == 1) {
    value = Json(other);
  } else if (value.is_structured()) {
    change_members(value, other, mutator);
  } else if (value.is_string()) {
    value = mutator.bytes(value.get<std::string>());
  } else if (value.is_number_integer() && how < 6) {
    const int64_t steps[] = {1, -1, 2, 16};
    value = static_cast<int64_t>(value.get<uint64_t>() + static_cast<uint64_t>(steps[mutator.below(4)]));
  } else if (value.is_boolean() && how < 6) {
    value = !value.get<bool>();
  } else {
    value = interesting(mutator);
  }
}

}  // namespace

std::string Mutator::bytes(std::string_view text, size_t room) {
  std::string out(text);
  out.resize(text.size() + room);
  out.resize(LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(out.data()), text.size(), out.size()));
  return out;
}

std::string Mutator::json(std::string_view text) {
  if (below(4) == 0 || is_deep(text)) return bytes(text);
  Json document = Json::parse(text, nullptr, false);
  if (document.is_discarded()) return bytes(text);
  for (size_t n = 1 + below(2); n > 0; n--) {
    std::vector<Json*> all;
    collect(document, all);
    Json& value = *all[below(all.size())];
    Json other = *all[below(all.size())];
    change(value, other, *this);
  }
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::vector<std::string> split(std::string_view input, size_t n_texts) {
  std::vector<std::string> texts;
  while (texts.size() + 1 < n_texts) {
    const size_t end = std::min(input.find('\0'), input.size());
    texts.emplace_back(input.substr(0, end));
    input.remove_prefix(std::min(input.size(), end + 1));
  }
  texts.emplace_back(input);
  return texts;
}

std::string join(const std::vector<std::string>& texts) {
  std::string input;
  for (size_t i = 0; i < texts.size(); i++) input.append(i == 0 ? "" : std::string(1, '\0')).append(texts[i]);
  return input;
}

size_t give(const std::string& input, uint8_t* data, size_t max_size) {
  const size_t size = std::min(input.size(), max_size);
  std::memcpy(data, input.data(), size);
  return size;
}

}  // namespace fuzz
