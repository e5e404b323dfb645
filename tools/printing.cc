#include "printing.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <utility>

#include "failure.h"

namespace tool {

Json json_float(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, value).ptr;
  double number = 0;
  std::from_chars(text, end, number);
  return number;
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Failure(kError, std::string("cannot write to standard output: ") + std::strerror(errno));
  }
}

namespace {

// Bytes of the character that the text begins with, and whether a terminal shows it as it is.
std::pair<size_t, bool> first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  if (byte(0) < 0x80) return {1, byte(0) >= 0x20 && byte(0) != 0x7f};
  const size_t n = byte(0) >= 0xf0 ? 4 : byte(0) >= 0xe0 ? 3 : 2;
  if (byte(0) < 0xc2 || byte(0) > 0xf4 || n > text.size()) return {1, false};
  for (size_t i = 1; i < n; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return {1, false};
  }
  return {n, !(byte(0) == 0xc2 && byte(1) < 0xa0)};  // the controls U+0080 to U+009F
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const auto [n, shown] = first_character(text);
    if (shown) out += text.substr(0, n);
    for (const char c : text.substr(0, shown ? 0 : n)) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\x%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += c == '\n' ? "\\n" : c == '\t' ? "\\t" : escape;
    }
    text.remove_prefix(n);
  }
  return out;
}

void complain(std::string_view message) { std::fprintf(stderr, "%s\n", printable(message).c_str()); }

}  // namespace tool
