#include "placement/device_share.h"

#include <vector>

#include "backend/backend.h"
#include "base/blocks.h"
#include "base/saturating.h"

namespace finermoe {
namespace {

struct Part {
  uint64_t weights = 0, stored = 0, routed = 0, bytes_per_token = 0;

  void add(const Config& config, const TensorSpec& spec) {
    const uint64_t bytes = stored_bytes(config, spec);
    weights += copied_bytes(bytes);
    stored += bytes;
    bytes_per_token += read_per_token(config, spec);
    if (spec.kind == TensorKind::routed) routed += bytes;
  }
};

// What is placed together.
struct Parts {
  Part head, embedding;
  std::vector<Part> layers, experts;  // of each layer: without routed experts, and these alone

  explicit Parts(const Config& config) : layers(config.n_layers), experts(config.n_layers) {
    visit_tensors(config, [&](const TensorSpec& spec) { of(spec, config).add(config, spec); });
  }

 private:
  Part& of(const TensorSpec& spec, const Config& config) {
    if (spec.layer >= 0) return (spec.kind == TensorKind::routed ? experts : layers)[static_cast<size_t>(spec.layer)];
    return spec.kind == TensorKind::embedding && !config.tied_embeddings ? embedding : head;
  }
};

}  // namespace

uint64_t stored_bytes(const Config& config, const TensorSpec& spec) {
  return matrix_bytes(config.type_of(spec), spec.rows, spec.columns);
}

uint64_t read_per_token(const Config& config, const TensorSpec& spec) {
  const uint64_t bytes = stored_bytes(config, spec);
  if (spec.kind == TensorKind::routed) return spec.expert == 0 ? bytes * config.router.n_experts_per_token() : 0;
  // One row of the embedding; a tied one is also the head.
  return spec.kind == TensorKind::embedding && !config.tied_embeddings ? bytes / config.vocab_size : bytes;
}

DeviceShare DeviceShare::within(const Config& config, uint64_t limit, FunctionRef<uint64_t(size_t n)> bytes_of_layers) {
  const Parts parts(config);
  DeviceShare share;
  const auto add = [&](const Part& part) {
    share.weights += part.weights;
    share.stored += part.stored;
    share.routed += part.routed;
    share.bytes_per_token += part.bytes_per_token;
  };
  const auto fits = [&](size_t n, uint64_t more) {
    return saturating_sum(bytes_of_layers(n), share.weights + more) <= limit;
  };
  add(parts.head);
  for (size_t layer = config.n_layers; layer-- > 0;) {
    const uint64_t more = parts.layers[layer].weights + (layer == 0 ? parts.embedding.weights : 0);
    if (share.n_layers > 0 && !fits(share.n_layers + 1, more)) return share;
    add(parts.layers[layer]);
    share.n_layers++;
  }
  add(parts.embedding);
  for (size_t layer = config.n_layers; layer-- > 0;) {
    if (!config.is_moe_layer[layer]) continue;
    if (!fits(share.n_layers, parts.experts[layer].weights)) return share;
    add(parts.experts[layer]);
    share.n_moe_layers++;
  }
  return share;
}

}  // namespace finermoe
