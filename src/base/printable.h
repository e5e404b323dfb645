// Messages quote paths, tensor names and JSON that others wrote.
#pragma once

#include <string>
#include <string_view>

namespace finermoe {

// The text as one line of UTF-8 that is safe to show on a terminal: control characters, those that change the text
// direction, and bytes that are not UTF-8 become \n, \t, \x1b or \u202e.
std::string printable(std::string_view text);

}  // namespace finermoe
