#include "model/weights.h"

#include "format/tensor_table.h"

namespace finermoe {
namespace {

WeightView* place_of(const TensorSpec& spec, Weights& weights) {
  LayerWeights* layer = spec.layer < 0 ? nullptr : &weights.layers[static_cast<size_t>(spec.layer)];
  const auto ffn = [&]() -> FfnWeights& {
    if (spec.kind == TensorKind::routed) return weights.experts[static_cast<size_t>(spec.expert_of_all)];
    return spec.kind == TensorKind::shared ? layer->moe.shared : layer->dense;
  };
  switch (spec.role) {
    case TensorRole::embedding:
      return &weights.embedding;
    case TensorRole::input_norm:
      return &layer->input_norm;
    case TensorRole::q:
      return &layer->qkv.q;
    case TensorRole::q_bias:
      return &layer->qkv.q_bias;
    case TensorRole::k:
      return &layer->qkv.k;
    case TensorRole::k_bias:
      return &layer->qkv.k_bias;
    case TensorRole::v:
      return &layer->qkv.v;
    case TensorRole::v_bias:
      return &layer->qkv.v_bias;
    case TensorRole::o:
      return &layer->o;
    case TensorRole::post_attention_norm:
      return &layer->post_attention_norm;
    case TensorRole::gate:
      return &ffn().gate;
    case TensorRole::up:
      return &ffn().up;
    case TensorRole::down:
      return &ffn().down;
    case TensorRole::router:
      return &layer->moe.router.gate;
    case TensorRole::concat_gate:
      return &layer->moe.router.concat_gate;
    case TensorRole::concat_proj:
      return &layer->moe.concat_proj;
    case TensorRole::shared_gate:
      return &layer->moe.shared_gate;
    case TensorRole::final_norm:
      return &weights.norm;
    case TensorRole::head:
      return &weights.head;
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
  for (size_t layer = 0; layer < config.n_layers; layer++) {
    weights.layers[layer].is_moe = config.is_moe_layer[layer];
    if (!config.is_moe_layer[layer]) continue;
    MoeWeights& moe = weights.layers[layer].moe;
    moe.first_expert = config.first_expert_of(layer);
    moe.experts = std::span(weights.experts).subspan(moe.first_expert, n_experts);
  }
  Status bound = for_each_tensor(config, [&](const TensorSpec& spec) {
    *place_of(spec, weights) = view_of(*checkpoint.find(spec.name));
    return Status();
  });
  static_cast<void>(bound);  // the visitor has no errors
  if (config.tied_embeddings) weights.head = weights.embedding;
  return weights;
}

WeightView Weights::head_of(const Checkpoint& checkpoint) { return view_of(*checkpoint.find(head_name)); }

}  // namespace finermoe
