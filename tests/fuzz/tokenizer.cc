// tokenizer.json and tokenizer_config.json, and what the tokenizer that they make does with a text. Input: the two
// texts, each ending at a NUL, then the text to encode.
#include "mutate.h"
#include "text_checks.h"

using namespace fuzz;

namespace {

void check_info(const finermoe_tokenizer* tokenizer) {
  const auto about = info<finermoe_tokenizer_info>(
      [&](auto* out, auto** e) { return finermoe_tokenizer_get_info(tokenizer, out, e); });
  for (const int32_t id : {about.bos_id, about.eos_id, about.pad_id, about.end_of_turn_id}) {
    HOLDS(id >= -1 && (id < 0 || static_cast<size_t>(id) < about.vocab_size));
  }
  HOLDS(about.has_chat == 0 || about.has_chat == 1);
  HOLDS(about.n_added <= about.vocab_size);
  const auto chat = must<Chat>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  run([&](auto** e) { return finermoe_chat_add(chat.get(), "user", "the", 3, e); });
  int32_t code;
  read<int32_t>([&](auto... rest) { return finermoe_chat_encode(chat.get(), tokenizer, 0, rest...); }, &code);
  HOLDS(ok(code) || !about.has_chat || code == FINERMOE_ERROR_CHAT_TEMPLATE);
  HOLDS(!ok(code) || about.has_chat);
  HOLDS(about.has_chat || about.end_of_turn_id == -1);
  for (int32_t id : {0, 1, 100, static_cast<int32_t>(about.vocab_size) - 1, static_cast<int32_t>(about.vocab_size)}) {
    int32_t kind = -1;
    read_text([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_tokenizer_token(tokenizer, id, out, capacity, needed, &kind, e);
    });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Texts texts(data, size);
  const std::string_view json = texts.next(), config = texts.next(), text = texts.rest();
  const Tokenizer tokenizer = open_tokenizer(json, config);
  if (tokenizer == nullptr) return 0;
  check_info(tokenizer.get());
  for (const uint32_t flags : {FINERMOE_TEXT_DEFAULT, FINERMOE_TEXT_PARSE_SPECIAL, FINERMOE_TEXT_NO_SPECIAL_TOKENS}) {
    check_encoding(tokenizer.get(), text, flags);
  }
  n_completed++;
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Mutator mutator(seed);
  std::vector<std::string> texts = split({reinterpret_cast<const char*>(data), size}, 3);
  const size_t which = mutator.below(4);
  if (which == 3) {
    texts[2] = mutator.bytes(texts[2]);
  } else {
    std::string& text = texts[which == 2 ? 1 : 0];
    text = mutator.json(text);
  }
  return give(join(texts), data, max_size);
}
