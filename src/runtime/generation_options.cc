// Options of a request: from a model's defaults, and checked.
#include <algorithm>
#include <cmath>
#include <iterator>

#include "runtime/generation.h"

namespace finermoe {
namespace {

bool is_in_vocabulary(int32_t id, uint64_t vocab_size) { return id >= 0 && static_cast<uint64_t>(id) < vocab_size; }

}  // namespace

GenerationOptions GenerationOptions::from_defaults(const GenerationDefaults& defaults, uint64_t vocab_size) {
  GenerationOptions options;
  std::copy_if(defaults.stop_ids.begin(), defaults.stop_ids.end(), std::back_inserter(options.stop_tokens),
               [&](int32_t id) { return is_in_vocabulary(id, vocab_size); });
  options.max_tokens = defaults.max_new_tokens;
  options.min_tokens = defaults.min_new_tokens;
  options.sampling.repetition_penalty = defaults.repetition_penalty;
  if (defaults.do_sample) {
    options.sampling.temperature = defaults.temperature;
    options.sampling.top_k = defaults.top_k;
    options.sampling.top_p = defaults.top_p;
    options.sampling.min_p = defaults.min_p;
    options.sampling.typical_p = defaults.typical_p;
  }
  return options;
}

Status GenerationOptions::check_ids(uint64_t vocab_size) const {
  const auto check = [&](int32_t id, std::string_view what) -> Status {
    if (is_in_vocabulary(id, vocab_size)) return {};
    return Status(
        FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
        format_text("token id ", id, ", ", what, " of the options, is not in the session's vocabulary of ", vocab_size),
        format_text("0 to ", vocab_size - 1), format_text(id));
  };
  for (const auto& [id, bias] : sampling.logit_bias) {
    FM_TRY(check(id, bias == -INFINITY ? "a banned token" : "a biased token"));
  }
  for (int32_t id : stop_tokens) FM_TRY(check(id, "a stop token"));
  return {};
}

}  // namespace finermoe
