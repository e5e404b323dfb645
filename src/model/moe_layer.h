#pragma once

#include "model/scratch.h"

namespace finermoe {

// One MoE layer (docs/finermoe-layer.md, section 3): x += moe(normed), n rows of the activations of the
// layer's device.
Status moe_layer(const Model& model, const LayerWeights& layer, size_t n, Scratch& scratch);

}  // namespace finermoe
