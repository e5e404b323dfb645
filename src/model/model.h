// A model that is ready to compute.
#pragma once

#include <memory>

#include "format/checkpoint.h"
#include "model/weights.h"
#include "placement/expert_cache.h"
#include "placement/expert_pages.h"
#include "placement/placement.h"

namespace finermoe {

// Any number of threads may run it at once, each with its own scratch.
struct Model {
  std::shared_ptr<const Checkpoint> checkpoint;
  Config config;
  Placement placement;
  Weights weights;
  std::shared_ptr<ExpertPages> expert_pages;  // null: only the system decides which are in memory
  std::unique_ptr<ExpertCache> expert_cache;  // null: no device fetches experts

  AttentionShape attention_shape(size_t layer) const {
    return {config.hidden_size, config.n_heads, config.n_kv_heads, config.head_size, config.window_of(layer)};
  }
};

}  // namespace finermoe
