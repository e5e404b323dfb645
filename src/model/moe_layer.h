#pragma once

#include "model/scratch.h"

namespace finermoe {

// One MoE layer (docs/finermoe-layer.md, section 3): x += moe(normed), n rows of the first device's activations.
Status moe_layer(const Model& model, const MoeWeights& weights, size_t n, Scratch& scratch);

}  // namespace finermoe
