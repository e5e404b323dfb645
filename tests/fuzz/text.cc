// Text to ids and back with tokenizers that are as they should be. Input: a byte for the flags, then the text.
#include "text_checks.h"

using namespace fuzz;

namespace {

void check_tokens(const finermoe_tokenizer* tokenizer, const std::vector<int32_t>& ids) {
  for (int32_t id : ids) {
    int32_t kind = -1, found = -1;
    const std::string bytes = read_text([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_tokenizer_token(tokenizer, id, out, capacity, needed, &kind, e);
    });
    HOLDS(kind >= FINERMOE_TOKEN_NORMAL && kind < FINERMOE_TOKEN_UNUSED && !bytes.empty());
    HOLDS(ok(run([&](auto** e) { return finermoe_tokenizer_find(tokenizer, bytes.data(), bytes.size(), &found, e); })));
    HOLDS(found == id);
  }
}

void check(const finermoe_tokenizer* tokenizer, std::string_view text, uint32_t flags, bool normalizes) {
  const std::vector<int32_t> ids = check_encoding(tokenizer, text, flags);
  HOLDS(text.empty() == ids.empty());
  check_tokens(tokenizer, ids);
  // What is decoded is the text with what was invalid in it replaced, and normalised; to do so again changes nothing.
  const std::string shown = decode(tokenizer, ids, FINERMOE_TEXT_SHOW_SPECIAL);
  HOLDS(decode(tokenizer, encode(tokenizer, shown, flags), FINERMOE_TEXT_SHOW_SPECIAL) == shown);
  if (!normalizes && shown.find("\xEF\xBF\xBD") == shown.npos) HOLDS(shown == text);
  if ((flags & FINERMOE_TEXT_PARSE_SPECIAL) == 0) HOLDS(decode(tokenizer, ids, FINERMOE_TEXT_DEFAULT) == shown);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Tokenizer nfc = open_tokenizer(text_of(tokenizer_nfc), text_of(tokenizer_config));
  static const Tokenizer plain = open_tokenizer(text_of(tokenizer_plain), text_of(tokenizer_config));
  HOLDS(nfc != nullptr && plain != nullptr);
  if (size == 0) return 0;
  const uint32_t flags = data[0] % 2 == 0 ? FINERMOE_TEXT_DEFAULT : FINERMOE_TEXT_PARSE_SPECIAL;
  const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
  check(nfc.get(), text, flags, true);
  check(plain.get(), text, flags, false);
  std::vector<int32_t> any;
  for (unsigned char byte : text) any.push_back(byte - 8 + (byte > 200 ? 40 : 0));
  check_ids(plain.get(), any);
  n_completed++;
  return 0;
}
