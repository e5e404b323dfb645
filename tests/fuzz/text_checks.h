// What must hold of any text with any tokenizer.
#pragma once

#include "support.h"

namespace fuzz {

inline std::vector<int32_t> encode(const finermoe_tokenizer* tokenizer, std::string_view text, uint32_t flags,
                                   int32_t* code = nullptr) {
  return read<int32_t>(
      [&](int32_t* ids, size_t capacity, size_t* needed, finermoe_error** e) {
        return finermoe_tokenizer_encode(tokenizer, text.data(), text.size(), flags, ids, nullptr, capacity, needed, e);
      },
      code);
}
inline std::string decode(const finermoe_tokenizer* tokenizer, const std::vector<int32_t>& ids, uint32_t flags) {
  int32_t code;
  std::string text = read_text(
      [&](auto... rest) { return finermoe_tokenizer_decode(tokenizer, ids.data(), ids.size(), flags, rest...); },
      &code);
  HOLDS(ok(code));
  return text;
}

// The text of a decoder that gets one id after another.
inline std::string stream(const finermoe_tokenizer* tokenizer, const std::vector<int32_t>& ids, uint32_t flags) {
  const auto decoder =
      must<Decoder>([&](auto** out, auto** e) { return finermoe_decoder_create(tokenizer, flags, out, e); });
  std::string text;
  int32_t code;
  for (int32_t id : ids) {
    text += read_text([&](auto... rest) { return finermoe_decoder_push(decoder.get(), id, rest...); }, &code);
    HOLDS(ok(code));
  }
  text += read_text([&](auto... rest) { return finermoe_decoder_flush(decoder.get(), rest...); }, &code);
  HOLDS(ok(code));
  return text;
}

// Any ids, in the vocabulary or not.
inline void check_ids(const finermoe_tokenizer* tokenizer, const std::vector<int32_t>& ids) {
  for (const uint32_t flags : {uint32_t{FINERMOE_TEXT_DEFAULT}, uint32_t{FINERMOE_TEXT_SHOW_SPECIAL}}) {
    HOLDS(stream(tokenizer, ids, flags) == decode(tokenizer, ids, flags));
  }
}

// Encoding, counting and offsets agree. Returns the ids; none where the tokenizer refuses the text.
inline std::vector<int32_t> check_encoding(const finermoe_tokenizer* tokenizer, std::string_view text, uint32_t flags) {
  int32_t code;
  const std::vector<int32_t> ids = encode(tokenizer, text, flags, &code);
  size_t count = 0, needed = 0;
  const int32_t counted =
      run([&](auto** e) { return finermoe_tokenizer_count(tokenizer, text.data(), text.size(), flags, &count, e); });
  HOLDS(counted == code && count == ids.size());
  if (!ok(code)) return {};

  std::vector<int32_t> again(count);
  std::vector<uint64_t> offsets(2 * count);
  HOLDS(ok(run([&](auto** e) {
    return finermoe_tokenizer_encode(tokenizer, text.data(), text.size(), flags, again.data(), offsets.data(), count,
                                     &needed, e);
  })));
  HOLDS(again == ids && needed == count);
  const auto about = info<finermoe_tokenizer_info>(
      [&](auto* out, auto** e) { return finermoe_tokenizer_get_info(tokenizer, out, e); });
  uint64_t last = 0;
  for (size_t i = 0; i < count; i++) {
    HOLDS(ids[i] >= 0 && static_cast<size_t>(ids[i]) < about.vocab_size);
    HOLDS(offsets[2 * i] <= offsets[2 * i + 1] && offsets[2 * i + 1] <= text.size());
    const bool is_around = offsets[2 * i] == 0 && offsets[2 * i + 1] == 0;  // a token that stands for no text
    HOLDS(offsets[2 * i] >= last || (is_around && (flags & FINERMOE_TEXT_NO_SPECIAL_TOKENS) == 0));
    last = std::max(last, offsets[2 * i]);
  }
  check_ids(tokenizer, ids);
  return ids;
}

}  // namespace fuzz
