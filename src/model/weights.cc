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

// Tensors of one device, and where to store their views.
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
  std::vector<size_t> n_layers(placement.devices.size());  // of each device
  for (size_t layer = 0; layer < config.n_layers; layer++) {
    weights.layers[layer].device = placement.of_layer(layer);
    weights.layers[layer].index_on_device = n_layers[placement.of_layer(layer)]++;
    weights.layers[layer].is_moe = config.is_moe_layer[layer];
    if (!config.is_moe_layer[layer]) continue;
    MoeWeights& moe = weights.layers[layer].moe;
    moe.first_expert = config.first_expert_of(layer);
    moe.is_fetched = placement.is_fetched(moe.first_expert);
    moe.experts = std::span(weights.experts).subspan(moe.first_expert, n_experts);
    for (size_t device = 0; device < placement.devices.size(); device++) {
      DeviceExperts part{device, {}};
      for (uint32_t expert = 0; expert < n_experts; expert++) {
        if (placement.of_expert(moe.first_expert + expert) == device) part.experts.push_back(expert);
      }
      if (!part.experts.empty()) moe.parts.push_back(std::move(part));
    }
  }
  std::vector<DeviceTensors> of_devices(placement.devices.size());
  visit_tensors(config, [&](const TensorSpec& spec) {
    const Tensor* const tensor = checkpoint.find(spec.name);
    if (placement.is_fetched(spec)) {
      *place_of(spec, weights) = {{}, tensor->dtype, tensor->rows, tensor->columns};
      return;
    }
    DeviceTensors& on = of_devices[placement.of(spec)];
    on.tensors.push_back(tensor);
    on.places.push_back(place_of(spec, weights));
  });
  if (config.tied_embeddings && placement.of_head() != placement.of_embedding()) {
    FM_ASSIGN(const Config resolved, checkpoint.resolved_config());
    DeviceTensors& on = of_devices[placement.of_head()];
    on.tensors.push_back(checkpoint.find(resolved.tied_embeddings ? embedding_name : head_name));
    on.places.push_back(&weights.head);
  }
  for (size_t device = 0; device < of_devices.size(); device++) {
    const DeviceTensors& on = of_devices[device];
    FM_ASSIGN(BoundWeights bound, placement.devices[device].backend->bind(on.tensors, account, progress));
    for (size_t i = 0; i < on.places.size(); i++) *on.places[i] = bound.views[i];
    if (bound.memory) weights.memory_.push_back(std::move(bound.memory));
  }
  if (!weights.head) weights.head = weights.embedding;
  return weights;
}

Status Weights::bind_head(const Checkpoint& checkpoint, const Placement& placement,
                          std::shared_ptr<MemoryAccount> account) {
  const Tensor* const tensor = checkpoint.find(head_name);
  FM_ASSIGN(BoundWeights bound,
            placement.devices[placement.of_head()].backend->bind({&tensor, 1}, std::move(account), {}));
  head = bound.views[0];
  if (bound.memory) memory_.push_back(std::move(bound.memory));
  return {};
}

}  // namespace finermoe
