// The defaults of a model's generation_config.json, and the ids of its config.json, to four generated tokens. Input:
// the text of generation_config.json up to a NUL, then that of config.json.
#include <optional>

#include "mutate.h"
#include "support.h"

using namespace fuzz;

namespace {

constexpr size_t context = 8;

std::string file(std::string_view config, const std::string& more) {
  std::string header = R"({"__metadata__":{"finermoe.config.json":)" + quoted(config) + more + "}";
  header += text_of(bare_header);
  header.append((8 - header.size() % 8) % 8, ' ');
  const uint64_t length = header.size();
  std::string out(8, '\0');
  std::memcpy(out.data(), &length, 8);
  return out + header + std::string(text_of(bare_data));
}

void check(const finermoe_generation_options_info& i) {
  HOLDS(i.temperature >= 0 && i.temperature < 1e300);
  HOLDS(i.top_p > 0 && i.top_p <= 1 && i.typical_p > 0 && i.typical_p <= 1 && i.min_p >= 0 && i.min_p < 1);
  HOLDS(i.repetition_penalty > 0 && i.repetition_penalty < 1e300);
  HOLDS(i.frequency_penalty == i.frequency_penalty && i.presence_penalty == i.presence_penalty);
}

struct Outcome {
  int32_t code = FINERMOE_OK;
  std::vector<int32_t> tokens;
  bool operator==(const Outcome&) const = default;
};

// Nothing where the model has too few positions for the session.
std::optional<Outcome> generate(finermoe_model* model, const finermoe_generation_options* options) {
  const uint64_t vocab_size = config_info(model).vocab_size;
  const Session session = open_session(model, context);
  if (session == nullptr) return std::nullopt;
  Outcome outcome;
  const int32_t prompt[] = {1, 0, 2};
  const auto generation = create<Generation>(
      [&](auto** out, auto** e) { return finermoe_generation_create(session.get(), options, prompt, 3, out, e); },
      &outcome.code);
  finermoe_event event;
  for (int n = 0; n < 4 && generation != nullptr && ok(outcome.code); n++) {
    outcome.code = next(generation.get(), vocab_size, event);
    outcome.tokens.push_back(event.token);
  }
  HOLDS(session_info(session.get()).length <= context);
  return outcome;
}

void use(finermoe_model* model) {
  int32_t code;
  const auto options = create<GenerationOptions>(
      [&](auto** out, auto** e) { return finermoe_generation_options_create(model, out, e); }, &code);
  const std::optional<Outcome> with_null = generate(model, nullptr);
  if (!with_null) return;
  if (options == nullptr) {  // a request with NULL options says the same
    HOLDS(with_null->code == code && with_null->tokens.empty());
    return;
  }
  check(info<finermoe_generation_options_info>(
      [&](auto* out, auto** e) { return finermoe_generation_options_get_info(options.get(), out, e); }));
  HOLDS(with_null == generate(model, options.get()));
  if (ok(with_null->code)) n_completed++;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Texts texts(data, size);
  const std::string_view defaults = texts.next(), config = texts.rest();
  {
    const std::string bare = file(config, "");
    if (open_model(bare.data(), bare.size()) == nullptr) return 0;
    const std::string whole = file(config, R"(,"finermoe.generation_config.json":)" + quoted(defaults));
    const Model model = open_model(whole.data(), whole.size());
    HOLDS(model != nullptr);  // an optional file that is wrong only fails those calls that need it
    use(model.get());
  }
  HOLDS(memory_used() == 0);
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size, unsigned seed) {
  Mutator mutator(seed);
  std::vector<std::string> texts = split({reinterpret_cast<const char*>(data), size}, 2);
  std::string& text = texts[mutator.below(4) == 0 ? 1 : 0];
  text = mutator.json(text);
  return give(join(texts), data, max_size);
}
