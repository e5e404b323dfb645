#include "base/printable.h"

#include <cstdio>

#include "base/utf8.h"

namespace finermoe {
namespace {

bool is_hidden(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Decoded character = decode_utf8(text, 0);
    const size_t n = character.valid ? character.size : 1;
    if (character.valid && !is_hidden(character.code_point)) {
      out += text.substr(0, n);
    } else if (text[0] == '\n' || text[0] == '\t' || text[0] == '\r') {
      out += text[0] == '\n' ? "\\n" : text[0] == '\t' ? "\\t" : "\\r";
    } else {
      char escape[16];
      const auto byte = static_cast<unsigned>(static_cast<unsigned char>(text[0]));
      std::snprintf(escape, sizeof escape, n == 1 ? "\\x%02x" : "\\u%04x",
                    n == 1 ? byte : unsigned{character.code_point});
      out += escape;
    }
    text.remove_prefix(n);
  }
  return out;
}

}  // namespace finermoe
