// A plan of the library, and what `info` and `plan` both say of a model.
#pragma once

#include "common.h"

namespace tool {

finermoe_plan compute_plan(const Config& config, const ComputeFlags& flags, size_t n_sessions);
Json describe_weights(const finermoe_plan& plan);
// Head size, rope scaling and sliding window; null where there is none.
Json describe_attention(const finermoe_config_info& info);
// The last two for a person, as (name, text); empty where there is none.
std::vector<std::pair<std::string, std::string>> attention_rows(const Json& attention);

}  // namespace tool
