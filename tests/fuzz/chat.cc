// A chat template and the messages that it renders. Input: the template up to a NUL, then messages, each a byte for its
// role and a text up to a NUL.
#include "mutate.h"
#include "text_checks.h"

using namespace fuzz;

namespace {

void add_messages(finermoe_chat* chat, Texts& texts) {
  constexpr const char* roles[] = {"user", "assistant", "system", "tool", ""};
  for (int n = 0; n < 12 && !texts.empty(); n++) {
    const std::string_view message = texts.next();
    const unsigned char role = message.empty() ? 0 : static_cast<unsigned char>(message[0]);
    const std::string_view text = message.substr(std::min<size_t>(message.size(), 1));
    run([&](auto** e) { return finermoe_chat_add(chat, roles[role % 5], text.data(), text.size(), e); });
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Texts texts(data, size);
  const std::string config =
      R"({"eos_token":"<|im_end|>","pad_token":"<|endoftext|>","chat_template":)" + quoted(texts.next()) + "}";
  const Tokenizer tokenizer = open_tokenizer(text_of(tokenizer_plain), config);
  if (tokenizer == nullptr) return 0;
  const auto chat = must<Chat>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  add_messages(chat.get(), texts);
  for (uint32_t flags : {uint32_t{FINERMOE_TEXT_DEFAULT}, uint32_t{FINERMOE_TEXT_NO_GENERATION_PROMPT}}) {
    int32_t encoded, rendered;
    const auto ids = read<int32_t>(
        [&](auto... rest) { return finermoe_chat_encode(chat.get(), tokenizer.get(), flags, rest...); }, &encoded);
    const std::string text = read_text(
        [&](auto... rest) { return finermoe_chat_render(chat.get(), tokenizer.get(), flags, rest...); }, &rendered);
    HOLDS(encoded == rendered);
    if (!ok(encoded)) return 0;
    HOLDS(decode(tokenizer.get(), ids, FINERMOE_TEXT_SHOW_SPECIAL) == text);
  }
  n_completed++;
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Mutator mutator(seed);
  std::vector<std::string> texts = split({reinterpret_cast<const char*>(data), size}, 2 + mutator.below(4));
  std::string& text = texts[mutator.below(texts.size())];
  text = mutator.bytes(text);
  return give(join(texts), data, max_size);
}
