#include "units.h"

#include <cctype>
#include <charconv>
#include <cmath>
#include <cstdio>

namespace tool {

bool parse_size(std::string_view text, uint64_t& bytes) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !(value >= 0)) return false;
  std::string unit;
  for (const char* c = end; c != text.data() + text.size(); ++c) {
    if (*c != ' ') unit += static_cast<char>(std::tolower(static_cast<unsigned char>(*c)));
  }
  static constexpr std::string_view kPrefixes = "kmgt";
  double factor = 1;
  if (!unit.empty() && kPrefixes.find(unit[0]) != std::string_view::npos) {
    const bool binary = unit.size() > 1 && unit[1] == 'i';
    factor = std::pow(binary ? 1024.0 : 1000.0, static_cast<double>(kPrefixes.find(unit[0]) + 1));
    unit.erase(0, binary ? 2 : 1);
  }
  if (!unit.empty() && unit != "b") return false;
  if (value * factor >= 18446744073709551615.0) return false;
  bytes = static_cast<uint64_t>(value * factor);
  return true;
}

std::string format_fixed(double value, int decimals) {
  char text[64];
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

namespace {

// The value with three significant digits, in the largest unit in which it is at least 1.
std::string format_scaled(uint64_t value, const char* const (&units)[5]) {
  double scaled = static_cast<double>(value);
  size_t unit = 0;
  while (scaled >= 999.5 && unit + 1 < 5) {
    scaled /= 1000;
    ++unit;
  }
  const int decimals = unit == 0 ? 0 : scaled < 9.995 ? 2 : scaled < 99.95 ? 1 : 0;
  return format_fixed(scaled, decimals) + units[unit];
}

}  // namespace

std::string format_bytes(uint64_t bytes) { return format_scaled(bytes, {" B", " kB", " MB", " GB", " TB"}); }
std::string format_count(uint64_t count) { return format_scaled(count, {"", " K", " M", " B", " T"}); }

}  // namespace tool
