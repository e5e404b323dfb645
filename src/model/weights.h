// The weights of a model, bound to their places in the checkpoint. Views only: nothing is copied.
#pragma once

#include <span>
#include <vector>

#include "backend/backend.h"
#include "format/checkpoint.h"

namespace finermoe {

// The FFN half of a layer: a dense FFN, or router, experts and what stands beside them.
struct MoeWeights {
  RouterWeights router;
  std::span<const FfnWeights> experts;  // [N]: gate, up [H_e, h]; down [h / G_O, H_e]
  size_t first_expert = 0;              // index of experts[0] among those of all layers
  WeightView concat_proj;               // [h, h], or empty
  FfnWeights shared;                    // gate, up [H, h]; down [h, H], or empty
  WeightView shared_gate;               // [1, h], or empty
};

struct LayerWeights {
  WeightView input_norm, post_attention_norm;  // [h]
  QkvWeights qkv;
  WeightView o;  // [h, n_heads * d]
  bool is_moe = false;
  FfnWeights dense;  // where !is_moe: gate, up [H, h]; down [h, H]
  MoeWeights moe;    // where is_moe
};

struct Weights {
  WeightView embedding;  // [vocab, h]
  WeightView norm;       // [h]
  WeightView head;       // [vocab, h]; the embedding where it is tied
  std::vector<LayerWeights> layers;
  std::vector<FfnWeights> experts;  // of all layers; LayerWeights::moe.experts are parts of it

  // The checkpoint was checked when it was opened: every tensor is there. A head that config.json ties to the
  // embeddings is taken to be them, until Checkpoint::resolved_config() says otherwise.
  static Weights bind(const Checkpoint& checkpoint);
  static WeightView head_of(const Checkpoint& checkpoint);  // that is stored
};

}  // namespace finermoe
