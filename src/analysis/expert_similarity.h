// How similar a layer's experts are (Fig. 4).
#pragma once

#include "base/function_ref.h"
#include "base/thread_pool.h"
#include "format/checkpoint.h"

namespace finermoe {

// Mean cosine similarity over all pairs of the layer's experts, each taken as its three matrices flattened together.
// `go_on` is called now and then; if it returns an error, so does this function.
Result<double> expert_similarity(const Checkpoint& checkpoint, size_t layer, ThreadPool& pool,
                                 FunctionRef<Status()> go_on);

}  // namespace finermoe
