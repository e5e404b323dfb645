// A single-file model: its header, the texts in it and its weights, up to two generated tokens. Input: the file.
#include <nlohmann/json.hpp>

#include "mutate.h"
#include "text_checks.h"

using namespace fuzz;

namespace {

constexpr size_t context = 8;

// Begins a generation on an empty session and takes two tokens.
template <class Create>
void generate(finermoe_session* session, uint64_t vocab_size, Create&& call) {
  HOLDS(ok(run([&](auto** e) { return finermoe_session_reset(session, e); })));
  const auto generation = create<Generation>(call);
  finermoe_event event;
  for (int n = 0; n < 2 && generation != nullptr; n++) {
    if (!ok(next(generation.get(), vocab_size, event))) break;
  }
  HOLDS(session_info(session).length <= context);
}

void use(finermoe_model* model) {
  const uint64_t vocab_size = config_info(model).vocab_size;
  const std::vector<int32_t> prompt = {0, static_cast<int32_t>(vocab_size - 1)};
  const Session session = open_session(model, context);
  if (session == nullptr) return;
  if (ok(run([&](auto** e) {
        return finermoe_session_append(session.get(), prompt.data(), prompt.size(), FINERMOE_LOGITS_LAST, nullptr, e);
      }))) {
    HOLDS(session_logits(session.get(), 0).size() == vocab_size);
    n_completed++;
  } else {
    HOLDS(session_info(session.get()).length == 0);
  }
  generate(session.get(), vocab_size, [&](auto** out, auto** e) {
    return finermoe_generation_create(session.get(), nullptr, prompt.data(), prompt.size(), out, e);
  });
  generate(session.get(), vocab_size, [&](auto** out, auto** e) {
    return finermoe_generation_create_text(session.get(), nullptr, "the", 3, 0, out, e);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  {
    const Model model = open_model(data, size);
    if (model == nullptr) return 0;
    const auto tokenizer =
        create<Tokenizer>([&](auto** out, auto** e) { return finermoe_tokenizer_open_model(model.get(), out, e); });
    if (tokenizer != nullptr) check_encoding(tokenizer.get(), "the <|im_end|>", FINERMOE_TEXT_PARSE_SPECIAL);
    use(model.get());
  }
  HOLDS(memory_used() == 0);
  return 0;
}

// One of the texts, the header or the data; the header's length is always right.
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Mutator mutator(seed);
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  uint64_t length = 0;
  if (size >= 8) std::memcpy(&length, data, 8);
  if (size < 8 || length > size - 8 || mutator.below(20) == 0) return LLVMFuzzerMutate(data, size, max_size);
  std::string header(input.substr(8, length)), weights(input.substr(8 + length));
  const size_t which = mutator.below(8);
  if (which == 0) {
    weights = mutator.bytes(weights);
  } else if (which < 3) {
    header = mutator.json(header);
  } else {
    auto parsed = nlohmann::ordered_json::parse(header, nullptr, false);
    if (!parsed.is_object() || !parsed.contains("__metadata__") || !parsed["__metadata__"].is_object() ||
        parsed["__metadata__"].empty()) {
      return LLVMFuzzerMutate(data, size, max_size);
    }
    auto& texts = parsed["__metadata__"];
    auto& text = *std::next(texts.begin(), static_cast<std::ptrdiff_t>(mutator.below(texts.size())));
    if (text.is_string()) text = mutator.json(text.get<std::string>());
    header = parsed.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }
  length = header.size();
  std::string file(8, '\0');
  std::memcpy(file.data(), &length, 8);
  return give(file + header + weights, data, max_size);
}
