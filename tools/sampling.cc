#include "sampling.h"

#include <charconv>

#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "library.h"
#include "tokenizer.h"

namespace tool {

void add_sampling(CLI::App& app, SamplingFlags& flags) {
  const std::string group = "Choosing tokens (defaults: the model's generation_config.json, else greedy)";
  const auto number = [&](const char* name, std::optional<double>& value, const char* description) {
    add_real(app, name, value, description)->group(group);
  };
  const auto count = [&](const char* name, auto& value, Range range, const char* description) {
    add_count(app, name, value, range, description)->group(group);
  };
  const auto list = [&](const char* name, auto& values, const char* type, const char* description) {
    // One value per occurrence, taken literally.
    app.add_option(name, values, description)->type_name(type)->group(group)->allow_extra_args(false);
  };
  count("-n,--max-tokens", flags.max_tokens, kTokensOrNone, "most tokens to generate; 0: until a stop");
  count("--min-tokens", flags.min_tokens, kTokensOrNone, "nothing stops it before this many");
  number("--temp", flags.temperature, "temperature; 0 is greedy");
  count("--top-k", flags.top_k, kTokensOrNone, "keep the k likeliest; 0: all");
  number("--top-p", flags.top_p, "keep the smallest set that reaches probability p; 1: all");
  number("--min-p", flags.min_p, "drop what is less likely than p times the likeliest; 0: nothing");
  number("--typical-p", flags.typical_p, "locally typical sampling; 1: off");
  number("--repetition-penalty", flags.repetition_penalty, "divides logits of tokens seen in prompt or output; 1: off");
  number("--frequency-penalty", flags.frequency_penalty, "subtracted for each time a token was generated; 0: off");
  number("--presence-penalty", flags.presence_penalty, "subtracted once from tokens that were generated; 0: off");
  count("--seed", flags.seed, kAnyNumber, "of the random stream");
  list("--logit-bias", flags.logit_biases, "ID=BIAS", "added to a token's logit; repeatable");
  list("--ban", flags.banned, "ID", "a token never to be chosen; repeatable");
  list("--stop", flags.stops, "TEXT", "ends the text before this string; repeatable");
  list("--stop-id", flags.stop_ids, "ID", "one more stop token; repeatable");
  app.add_flag("--ignore-eos", flags.ignore_eos, "stop tokens do not end it")->group(group);
  app.add_flag("--no-generation-config", flags.no_generation_config,
               "greedy, whatever the model's generation_config.json says; stops at the tokenizer's end of text")
      ->group(group);
  app.add_flag("--show-special", flags.show_special, "special tokens appear in the text")->group(group);
  count("--lookup", flags.n_lookup, kDrafts, "draft up to N tokens a pass from what stood before; 0: none");
  add_draft(app, flags.draft, group, "draft tokens by this model, a smaller one of the same vocabulary");
}

namespace {

void add_logit_bias(finermoe_generation_options* options, const std::string& text) {
  const size_t equals = text.find('=');
  int32_t id = -1;
  float bias = 0;
  if (equals != std::string::npos) {
    const char* const end = text.data() + text.size();
    const char* const middle = text.data() + equals;
    const auto [id_end, id_error] = std::from_chars(text.data(), middle, id);
    const auto [bias_end, bias_error] = std::from_chars(middle + 1, end, bias);
    if (id_error == std::errc() && id_end == middle && bias_error == std::errc() && bias_end == end) {
      return call(finermoe_generation_options_add_logit_bias, options, id, bias);
    }
  }
  throw Failure(kUsage, "--logit-bias: expected ID=BIAS as in 17=-2.5, found " + text);
}

}  // namespace

GenerationOptions generation_options(const Model& model, const SamplingFlags& flags, size_t default_tokens) {
  GenerationOptions owner;
  const finermoe_model* const defaults_of = flags.no_generation_config ? nullptr : model.get();
  call(finermoe_generation_options_create, defaults_of, owner.out());
  finermoe_generation_options* const options = owner.get();
  if (flags.no_generation_config) {
    const Tokenizer tokenizer = find_tokenizer(model);
    const int32_t end =
        tokenizer ? read_info<finermoe_tokenizer_info>(finermoe_tokenizer_get_info, tokenizer.get()).eos_id : -1;
    if (end >= 0) call(finermoe_generation_options_add_stop_token, options, end);
  }
  const auto defaults = read_info<finermoe_generation_options_info>(finermoe_generation_options_get_info, options);
  if (defaults.max_tokens == 0) call(finermoe_generation_options_set_max_tokens, options, default_tokens);

  const auto set = [options](auto function, const auto& value) {
    if (value) call(function, options, *value);
  };
  set(finermoe_generation_options_set_max_tokens, flags.max_tokens);
  set(finermoe_generation_options_set_min_tokens, flags.min_tokens);
  set(finermoe_generation_options_set_temperature, flags.temperature);
  set(finermoe_generation_options_set_top_k, flags.top_k);
  set(finermoe_generation_options_set_top_p, flags.top_p);
  set(finermoe_generation_options_set_min_p, flags.min_p);
  set(finermoe_generation_options_set_typical_p, flags.typical_p);
  set(finermoe_generation_options_set_repetition_penalty, flags.repetition_penalty);
  set(finermoe_generation_options_set_frequency_penalty, flags.frequency_penalty);
  set(finermoe_generation_options_set_presence_penalty, flags.presence_penalty);
  set(finermoe_generation_options_set_seed, flags.seed);
  for (const std::string& bias : flags.logit_biases) add_logit_bias(options, bias);
  const auto id_of = [](const char* flag, const std::string& text) {
    return static_cast<int32_t>(parse_count(flag, text, kTokensOrNone));
  };
  for (const std::string& id : flags.banned) {
    call(finermoe_generation_options_add_banned_token, options, id_of("--ban", id));
  }
  for (const std::string& id : flags.stop_ids) {
    call(finermoe_generation_options_add_stop_token, options, id_of("--stop-id", id));
  }
  for (const std::string& stop : flags.stops) {
    call(finermoe_generation_options_add_stop_string, options, stop.data(), stop.size());
  }
  call(finermoe_generation_options_set_ignore_eos, options, flags.ignore_eos ? 1 : 0);
  call(finermoe_generation_options_set_show_special, options, flags.show_special ? 1 : 0);
  set(finermoe_generation_options_set_lookup, flags.n_lookup);
  if (!flags.draft.model.empty()) {
    const Model draft_model = open_beside(model, flags.draft.model);
    call(finermoe_generation_options_set_draft, options, draft_model.get(), flags.draft.n);
  }
  return owner;
}

}  // namespace tool
