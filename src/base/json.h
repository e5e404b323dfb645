// JSON that may be hostile: bounded in size and depth, errors as values. What Python's json module takes is taken,
// since such files are its work: of a key that stands twice the last value counts, and a bare NaN, Infinity or
// -Infinity is the object that transformers 5 writes in its place, {"__float__": "NaN"}.
#pragma once

#include <string_view>

#include <nlohmann/json.hpp>

#include "base/status.h"

namespace finermoe {

using Json = nlohmann::json;

// `code` is the error of a text that is not such JSON, `name` stands for it in messages.
Result<Json> parse_json(std::string_view text, std::string_view name, Code code);

// One line about a syntax error at `position`; nlohmann's own text quotes the input, which may be anything.
Status json_error(std::string_view name, Code code, size_t position);

}  // namespace finermoe
