// UTF-8, character by character.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace finermoe {

constexpr uint32_t kReplacement = 0xFFFD;

struct Decoded {
  uint32_t code_point = kReplacement;
  uint32_t size = 1;  // bytes taken, at least 1
  bool valid = false;
};

// The character that begins at text[at]; an invalid one is as long as its maximal subpart (Unicode, section 3.9).
inline Decoded decode_utf8(std::string_view text, size_t at) {
  auto byte = [&](size_t i) -> uint32_t { return at + i < text.size() ? static_cast<unsigned char>(text[at + i]) : 0; };
  uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1, true};
  if (lead < 0xC2 || lead > 0xF4) return {};
  uint32_t n = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  // The range of the second byte excludes overlong forms, surrogates and values above U+10FFFF.
  uint32_t low = lead == 0xE0   ? 0xA0
                 : lead == 0xF0 ? 0x90
                                : 0x80,
           high = lead == 0xED   ? 0x9F
                  : lead == 0xF4 ? 0x8F
                                 : 0xBF;
  uint32_t code_point = lead & (0x7Fu >> n);
  for (uint32_t i = 1; i < n; ++i) {
    uint32_t next = byte(i);
    if (next < low || next > high) return {kReplacement, i, false};
    code_point = code_point << 6 | (next & 0x3F);
    low = 0x80, high = 0xBF;
  }
  return {code_point, n, true};
}

// The character that ends before text[end], end > 0; a byte that does not end one is invalid by itself.
inline Decoded decode_utf8_before(std::string_view text, size_t end) {
  for (size_t size = 1; size <= 4 && size <= end; ++size) {
    const Decoded found = decode_utf8(text, end - size);
    if (found.valid && found.size == size) return found;
  }
  return {};
}

inline void append_utf8(uint32_t code_point, std::string& out) {
  if (code_point < 0x80) {
    out += static_cast<char>(code_point);
    return;
  }
  uint32_t n = code_point < 0x800 ? 2 : code_point < 0x10000 ? 3 : 4;
  out += static_cast<char>((0xF00u >> n & 0xFF) | code_point >> (6 * (n - 1)));
  for (uint32_t i = n - 1; i-- > 0;) out += static_cast<char>(0x80 | (code_point >> (6 * i) & 0x3F));
}

}  // namespace finermoe
