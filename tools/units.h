// Human-readable sizes, counts and other numbers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tool {

bool parse_size(std::string_view text, uint64_t& bytes);  // "24GB", "512MiB", "1000"
std::string format_bytes(uint64_t bytes);                 // "1.23 GB"
std::string format_count(uint64_t count);                 // "1.23 B", "7.7 M"
std::string format_fixed(double value, int decimals);

}  // namespace tool
