// How alike a layer's experts are (Fig. 4).
#pragma once

#include "base/progress.h"
#include "runtime/exclusive_use.h"
#include "runtime/loaded_model.h"

namespace finermoe {

// Mean cosine similarity over all pairs of the layer's experts, each its three matrices flattened together.
Result<double> expert_similarity(const LoadedModel& model, size_t layer, const CancelFlag* cancel);

}  // namespace finermoe
