// The sampling flags, shared by `generate` and `chat`.
#pragma once

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "flags.h"
#include "handles.h"

namespace tool {

struct SamplingFlags {
  std::optional<size_t> max_tokens, min_tokens, top_k, n_lookup;
  DraftFlags draft;
  std::optional<double> temperature, top_p, min_p, typical_p;
  std::optional<double> repetition_penalty, frequency_penalty, presence_penalty;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_biases;  // "ID=BIAS"
  std::vector<std::string> banned, stop_ids;
  std::vector<std::string> stops;
  bool ignore_eos = false;
  bool show_special = false;
  bool no_generation_config = false;
};

void add_sampling(CLI::App& app, SamplingFlags& flags);

// The model's own defaults, or the tokenizer's end-of-text token as the only stop; then the flags.
// default_tokens: the maximum if neither sets one; 0: until a stop.
GenerationOptions generation_options(const Model& model, const SamplingFlags& flags, size_t default_tokens);

}  // namespace tool
