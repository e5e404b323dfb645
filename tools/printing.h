// Results and messages.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace tool {

// Objects keep the order in which their fields were written.
using Json = nlohmann::ordered_json;

// A float as the shortest decimal number that round-trips.
Json json_float(float value);
std::string dump(const Json& json, int indent = -1);
// Writes results to standard output and flushes. Throws if that fails.
void print(std::string_view text);

// A line on standard error, printable whatever it quotes.
void complain(std::string_view message);

}  // namespace tool
