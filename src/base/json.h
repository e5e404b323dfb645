// JSON that may be hostile: bounded in size and depth, no key twice, errors as values.
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
