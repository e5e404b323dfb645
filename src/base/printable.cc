#include "base/printable.h"

#include <cstdint>
#include <cstdio>

namespace finermoe {
namespace {

struct Character {
  uint32_t code = 0;
  size_t n_bytes = 0;  // 0: not UTF-8
};

Character first_character(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint32_t>(static_cast<unsigned char>(text[i])); };
  const uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const size_t n = lead >= 0xf0 && lead < 0xf8   ? 4
                   : lead >= 0xe0 && lead < 0xf0 ? 3
                   : lead >= 0xc0 && lead < 0xe0 ? 2
                                                 : 0;
  if (n == 0 || n > text.size()) return {};
  uint32_t code = lead & (0x7fu >> n);
  for (size_t i = 1; i < n; i++) {
    if ((byte(i) & 0xc0) != 0x80) return {};
    code = code << 6 | (byte(i) & 0x3f);
  }
  constexpr uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};  // of n bytes: shorter ones have shorter forms
  if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return {};
  return {code, n};
}

bool is_hidden(uint32_t code) {
  return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0x200e || code == 0x200f ||
         (code >= 0x2028 && code <= 0x202e) || (code >= 0x2066 && code <= 0x2069);
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Character character = first_character(text);
    const size_t n = character.n_bytes != 0 ? character.n_bytes : 1;
    if (character.n_bytes != 0 && !is_hidden(character.code)) {
      out += text.substr(0, n);
    } else if (text[0] == '\n' || text[0] == '\t' || text[0] == '\r') {
      out += text[0] == '\n' ? "\\n" : text[0] == '\t' ? "\\t" : "\\r";
    } else {
      char escape[16];
      const auto byte = static_cast<unsigned>(static_cast<unsigned char>(text[0]));
      std::snprintf(escape, sizeof escape, n == 1 ? "\\x%02x" : "\\u%04x", n == 1 ? byte : unsigned{character.code});
      out += escape;
    }
    text.remove_prefix(n);
  }
  return out;
}

}  // namespace finermoe
