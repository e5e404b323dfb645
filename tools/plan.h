// A plan of the library, and its weights as JSON.
#pragma once

#include "common.h"

namespace tool {

finermoe_plan compute_plan(const Config& config, const ComputeFlags& flags, size_t n_sessions);
Json describe_weights(const finermoe_plan& plan);

}  // namespace tool
