// What several commands report about a model.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "compute.h"
#include "handles.h"
#include "printing.h"

namespace tool {

finermoe_config_info model_info(const Model& model);

// Whether the model's lm_head.weight is used although its config.json, at `path`, ties the head to the embeddings.
bool unties_head(const std::string& path, const Model& model);
constexpr const char* kUntiedHead =
    "lm_head.weight differs from the embeddings that config.json ties it to, and is used";
// The smaller of `wanted` and what the model's positions allow.
uint64_t clamp_context(const Model& model, uint64_t wanted);

Json describe_weights(const finermoe_plan& plan);
// What its expert cache holds and how often it hit; null without one.
Json describe_expert_cache(const Model& model);
// The same for display: "512 MB, 80 experts; 1200 hits, 300 misses".
std::string expert_cache_words(const Json& cache);
// Head size, RoPE scaling and sliding window; null if there is none.
Json describe_attention(const finermoe_config_info& info);
// The last two for display, as (name, text); empty if there is none.
std::vector<std::pair<std::string, std::string>> attention_rows(const Json& attention);

}  // namespace tool
