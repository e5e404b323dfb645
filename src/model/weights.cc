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

WeightView view_of(const Tensor& tensor) { return {tensor.data, tensor.dtype, tensor.rows, tensor.columns}; }

}  // namespace

Weights Weights::bind(const Checkpoint& checkpoint) {
  const Config& config = checkpoint.config();
  const size_t n_experts = config.is_moe() ? config.router.n_experts() : 0;
  Weights weights;
  weights.layers.resize(config.n_layers);
  weights.experts.resize(config.n_moe_layers() * n_experts);
  for (size_t layer = 0, next = 0; layer < config.n_layers; layer++) {
    weights.layers[layer].is_moe = config.is_moe_layer[layer];
    if (!config.is_moe_layer[layer]) continue;
    weights.layers[layer].moe.experts = std::span(weights.experts).subspan(next, n_experts);
    weights.layers[layer].moe.first_expert = next;
    next += n_experts;
  }
  Status bound = for_each_tensor(config, [&](const TensorSpec& spec) {
    *place_of(spec, weights) = view_of(*checkpoint.find(spec.name));
    return Status();
  });
  static_cast<void>(bound);  // the visitor has no errors
  if (config.tied_embeddings) weights.head = weights.embedding;
  return weights;
}

WeightView Weights::head_of(const Checkpoint& checkpoint) { return view_of(*checkpoint.find("lm_head.weight")); }

}  // namespace finermoe
