#include "model/weights.h"

namespace finermoe {
namespace {

// Where a tensor's view belongs, by the last parts of its name.
WeightView* place_of(const TensorSpec& spec, Weights& weights) {
  if (spec.layer < 0) {
    return spec.kind == TensorKind::embedding ? &weights.embedding
           : spec.kind == TensorKind::head    ? &weights.head
                                              : &weights.norm;
  }
  LayerWeights& layer = weights.layers[static_cast<size_t>(spec.layer)];
  auto ends = [&](std::string_view tail) { return spec.name.ends_with(tail); };
  auto part_of = [&](FfnWeights& ffn) {
    return ends("gate_proj.weight") ? &ffn.gate : ends("up_proj.weight") ? &ffn.up : &ffn.down;
  };
  switch (spec.kind) {
    case TensorKind::norm:
      return ends("input_layernorm.weight") ? &layer.input_norm : &layer.post_attention_norm;
    case TensorKind::bias:
      return ends("q_proj.bias") ? &layer.qkv.q_bias : ends("k_proj.bias") ? &layer.qkv.k_bias : &layer.qkv.v_bias;
    case TensorKind::attention:
      return ends("q_proj.weight")   ? &layer.qkv.q
             : ends("k_proj.weight") ? &layer.qkv.k
             : ends("v_proj.weight") ? &layer.qkv.v
                                     : &layer.o;
    case TensorKind::dense:
      return part_of(layer.dense);
    case TensorKind::shared:
      return part_of(layer.moe.shared);
    case TensorKind::shared_gate:
      return &layer.moe.shared_gate;
    case TensorKind::routed:
      return part_of(weights.experts[layer.moe.first_expert + static_cast<size_t>(spec.expert)]);
    case TensorKind::router:
      return &layer.moe.router.gate;
    case TensorKind::concat_gate:
      return &layer.moe.router.concat_gate;
    case TensorKind::concat_proj:
      return &layer.moe.concat_proj;
    case TensorKind::embedding:
    case TensorKind::head:
      break;
  }
  return nullptr;
}

// Tensors of one device, and where their views belong.
struct DeviceTensors {
  std::vector<const Tensor*> tensors;
  std::vector<WeightView*> places;
};

}  // namespace

Result<Weights> Weights::bind(const Checkpoint& checkpoint, const Placement& placement,
                              std::shared_ptr<MemoryAccount> account, const Progress& progress) {
  const Config& config = checkpoint.config();
  const size_t n_experts = config.is_moe() ? config.router.n_experts() : 0;
  Weights weights;
  weights.layers.resize(config.n_layers);
  weights.experts.resize(config.n_moe_layers() * n_experts);
  for (size_t layer = 0, next = 0; layer < config.n_layers; layer++) {
    weights.layers[layer].is_moe = config.is_moe_layer[layer];
    if (!config.is_moe_layer[layer]) continue;
    MoeWeights& moe = weights.layers[layer].moe;
    moe.experts = std::span(weights.experts).subspan(next, n_experts);
    moe.first_expert = next;
    for (size_t device = 0; device < placement.devices.size(); device++) {
      DeviceExperts part{device, {}};
      for (uint32_t expert = 0; expert < n_experts; expert++) {
        if (placement.device_of(next + expert) == device) part.experts.push_back(expert);
      }
      if (!part.experts.empty()) moe.parts.push_back(std::move(part));
    }
    next += n_experts;
  }
  std::vector<DeviceTensors> of_devices(placement.devices.size());
  Status visited = for_each_tensor(config, [&](const TensorSpec& spec) {
    const bool is_routed = spec.kind == TensorKind::routed;
    const size_t expert =
        is_routed ? weights.layers[static_cast<size_t>(spec.layer)].moe.first_expert + static_cast<size_t>(spec.expert)
                  : 0;
    DeviceTensors& on = of_devices[is_routed ? placement.device_of(expert) : 0];
    on.tensors.push_back(checkpoint.find(spec.name));
    on.places.push_back(place_of(spec, weights));
    return Status();
  });
  static_cast<void>(visited);  // the visitor has no errors
  for (size_t device = 0; device < of_devices.size(); device++) {
    const DeviceTensors& on = of_devices[device];
    FM_ASSIGN(BoundWeights bound, placement.devices[device].backend->bind(on.tensors, account, progress));
    for (size_t i = 0; i < on.places.size(); i++) *on.places[i] = bound.views[i];
    if (bound.memory) weights.memory_.push_back(std::move(bound.memory));
  }
  if (config.tied_embeddings) weights.head = weights.embedding;
  return weights;
}

Status Weights::bind_head(const Checkpoint& checkpoint, const Placement& placement,
                          std::shared_ptr<MemoryAccount> account) {
  const Tensor* const tensor = checkpoint.find("lm_head.weight");
  FM_ASSIGN(BoundWeights bound, placement.devices[0].backend->bind({&tensor, 1}, std::move(account), {}));
  head = bound.views[0];
  if (bound.memory) memory_.push_back(std::move(bound.memory));
  return {};
}

}  // namespace finermoe
