// The code point classes that the pre-tokenizer distinguishes, and NFC with an alignment to the original text.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"

namespace finermoe {

// A code point is a class character and two flags, in one byte. The class characters:
//   ' '  the space   '8' other white space   '9' CR, LF   '\'' the apostrophe
//   '0' numbers   '6' numbers that are no part of a word to added tokens (Rust's \w)
//   '1' letters, save for those that contractions are made of: '2' s t m d, '3' r v, '4' e, '5' l
//   '.' all others   '/' others that are a part of a word to added tokens: marks, the underscore
// (pinned to the release of Unicode that Hugging Face's tokenizers use; scripts/make_unicode_classes.py).
constexpr uint8_t kNfcReplaces = 0x80;  // NFC replaces it
constexpr uint8_t kNfcJoins = 0x40;     // it may combine with, or be reordered before, what precedes it
uint8_t unicode_class(uint32_t code_point);
bool is_space(uint32_t code_point);
bool is_word(uint32_t code_point);  // as added tokens with single_word see it

// A part of a text after replacing invalid bytes and, if requested, NFC. If nothing changed, `text` is the original and
// begin and end are empty.
struct Normalized {
  std::string_view text;
  std::string classes;               // [code points of text] class characters
  std::vector<uint32_t> begin, end;  // [bytes of text] the original bytes that each comes from
  std::string storage;               // what `text` points to if something changed
};

// Normalizes the beginning of `text` and returns how many bytes it consumed: all of it, or at least `window` bytes, up
// to a point that neither NFC nor a word of the pre-tokenizer can cross. (`into` keeps its memory between calls.)
size_t normalize_window(std::string_view text, size_t window, bool nfc, Normalized& into);
// Only the class characters, of valid UTF-8.
void classify(std::string_view text, std::string& classes);
// NFC of a whole string.
std::string normalize_nfc(std::string_view text);

}  // namespace finermoe
