// How alike a layer's experts are (Fig. 4).
#pragma once

#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "format/checkpoint.h"

namespace finermoe {

// Mean cosine similarity over all pairs of the layer's experts, each its three matrices flattened together. Ends with
// what `go_on`, which is asked now and then, answers if that is no success.
Result<double> expert_similarity(const Checkpoint& checkpoint, size_t layer, ThreadPool& pool,
                                 FunctionRef<Status()> go_on);

}  // namespace finermoe
