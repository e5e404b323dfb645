// Which device holds and computes which part of a model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/device.h"
#include "format/tensor_table.h"
#include "placement/device_share.h"

namespace finermoe {

struct OpenDevice {
  std::shared_ptr<const Device> device;
  std::shared_ptr<const Backend> backend;
};

// What devices exchange through the host's memory, in elements of 4 bytes.
struct ExchangeArrays {
  uint64_t choices = 0;  // [n_rows, k] chosen experts; as many weights
  uint64_t hidden = 0;   // [n_rows, h] a layer's input, or sums over experts
  ExchangeArrays() = default;
  ExchangeArrays(const Config& config, size_t n_rows)
      : choices(n_rows * config.router.n_experts_per_token()), hidden(n_rows * config.hidden_size) {}
  uint64_t bytes() const { return (2 * choices + hidden) * 4; }
};

struct Placement {
  std::vector<OpenDevice> devices;
  // The device index of every layer, which has the layer's KV caches and everything of its weights but routed experts.
  // The first layer's has the embedding too, the last one's the final norm and the head. Empty: all are on the first
  // device.
  std::vector<uint8_t> device_of_layer;
  // That of every routed expert, numbered through all layers. Empty: all are on the first.
  std::vector<uint8_t> device_of_expert;
  // Whether that device fetches it when it is chosen, into its expert cache, and has no copy otherwise. Empty: none is
  // fetched.
  std::vector<bool> is_expert_fetched = {};

  static Placement on(OpenDevice device) { return {{std::move(device)}, {}, {}}; }
  // A device's share on it, the rest on another.
  static Placement shared(OpenDevice device, const DeviceShare& share, OpenDevice other, const Config& config) {
    Placement placement{{std::move(device), std::move(other)}, {}, {}};
    if (share.n_layers < config.n_layers) {
      placement.device_of_layer.assign(config.n_layers, 0);
      std::fill_n(placement.device_of_layer.begin(), config.n_layers - share.n_layers, 1);
    }
    const size_t n_elsewhere = config.n_moe_layers() - share.n_moe_layers, n_experts = config.router.n_experts();
    placement.device_of_expert.assign(config.n_moe_layers() * n_experts, 0);
    std::fill_n(placement.device_of_expert.begin(), n_elsewhere * n_experts, 1);
    return placement;
  }
  // The first device fetches those experts of its layers that are on the other one. Then that takes part only if it has
  // layers.
  void fetch_experts(const Config& config) {
    is_expert_fetched.assign(device_of_expert.size(), false);
    for (size_t layer = 0; layer < config.n_layers; layer++) {
      if (!config.is_moe_layer[layer] || of_layer(layer) != 0) continue;
      const size_t first = config.first_expert_of(layer), end = first + config.router.n_experts();
      for (size_t expert = first; expert < end; expert++) {
        is_expert_fetched[expert] = device_of_expert[expert] != 0;
        device_of_expert[expert] = 0;
      }
    }
    if (!divides_layers()) devices.resize(1);
  }

  // Then, unless experts are fetched, a pass needs nothing of the host.
  bool is_on_one_device() const {
    const auto is_first = [](uint8_t device) { return device == 0; };
    return std::all_of(device_of_layer.begin(), device_of_layer.end(), is_first) &&
           std::all_of(device_of_expert.begin(), device_of_expert.end(), is_first);
  }
  // Whether layers are on several devices, each of which then has KV caches of its own.
  bool divides_layers() const { return !device_of_layer.empty(); }
  bool has_layers(size_t device) const {
    if (!divides_layers()) return device == 0;
    return std::find(device_of_layer.begin(), device_of_layer.end(), device) != device_of_layer.end();
  }
  size_t of_layer(size_t layer) const { return divides_layers() ? device_of_layer[layer] : 0; }
  size_t of_embedding() const { return divides_layers() ? device_of_layer.front() : 0; }
  size_t of_head() const { return divides_layers() ? device_of_layer.back() : 0; }
  size_t of_expert(size_t expert) const { return device_of_expert.empty() ? 0 : device_of_expert[expert]; }
  bool fetches_experts() const {
    return std::find(is_expert_fetched.begin(), is_expert_fetched.end(), true) != is_expert_fetched.end();
  }
  bool is_fetched(size_t expert) const { return !is_expert_fetched.empty() && is_expert_fetched[expert]; }
  bool is_fetched(const TensorSpec& tensor) const {
    return tensor.kind == TensorKind::routed && is_fetched(static_cast<size_t>(tensor.expert_of_all));
  }
  size_t of(const TensorSpec& tensor) const {
    if (tensor.kind == TensorKind::routed) return of_expert(static_cast<size_t>(tensor.expert_of_all));
    if (tensor.layer >= 0) return of_layer(static_cast<size_t>(tensor.layer));
    return tensor.kind == TensorKind::embedding ? of_embedding() : of_head();
  }
  // Whether a tensor is used, or fetched, where the checkpoint has it.
  bool is_in_place(const TensorSpec& tensor) const {
    return is_fetched(tensor) || !devices[of(tensor)].device->copies_weights();
  }
};

}  // namespace finermoe
