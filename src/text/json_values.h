// What the readers of tokenizer files share: members that may be missing, and messages that show what was found.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"

namespace finermoe {

// null if the value is not an object or has no such member.
const Json& member(const Json& object, const char* key);
bool is(const Json& value, std::string_view text);
// A value as shown in messages; a component is shown by its name.
std::string show(const Json& value);

Status malformed_tokenizer(std::string message);
Status unsupported_component(std::string_view component, std::string expected, std::string found);

}  // namespace finermoe
