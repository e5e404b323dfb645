// The weights of a model, as views for its devices: in place in the checkpoint, or copies in the device's memory.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "format/checkpoint.h"
#include "placement/placement.h"

namespace finermoe {

// The experts of a layer that are on one device.
struct DeviceExperts {
  size_t device;                  // index into Placement::devices
  std::vector<uint32_t> experts;  // ascending indices into those of the layer
};

// The FFN half of a MoE layer: router, experts, and the shared expert and projection beside them.
struct MoeWeights {
  RouterWeights router;
  std::span<const FfnWeights> experts;  // [N]: gate, up [H_e, h]; down [h / G_O, H_e]
  std::vector<DeviceExperts> parts;     // all of them, by ascending device
  bool is_fetched = false;              // into the cache of the layer's device, which has all of them then
  size_t first_expert = 0;              // index of experts[0] among those of all layers
  WeightView concat_proj;               // [h, h], or empty
  FfnWeights shared;                    // gate, up [H, h]; down [h, H], or empty
  WeightView shared_gate;               // [1, h], or empty
};

struct LayerWeights {
  size_t device = 0;                           // index into Placement::devices, but for routed experts
  size_t index_on_device = 0;                  // among the layers of that device: the layer of its KV caches
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
  // Of all layers; LayerWeights::moe.experts point into it. Those that are fetched have a shape and a type, and an
  // address while the cache has them.
  std::vector<FfnWeights> experts;

  // The checkpoint was validated when it was opened: every tensor is present. A head that config.json ties to the
  // embeddings is assumed to be tied until Checkpoint::resolved_config() says otherwise; then call bind_head(). Where
  // the two are on different devices, that is asked at once.
  static Result<Weights> bind(const Checkpoint& checkpoint, const Placement& placement,
                              std::shared_ptr<MemoryAccount> account, const Progress& progress);
  Status bind_head(const Checkpoint& checkpoint, const Placement& placement, std::shared_ptr<MemoryAccount> account);

 private:
  std::vector<std::unique_ptr<DeviceMemory>> memory_;  // that views of copied tensors point to
};

}  // namespace finermoe
