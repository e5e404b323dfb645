// Which device holds and computes which part of a model.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "backend/device.h"
#include "format/tensor_table.h"

namespace finermoe {

struct OpenDevice {
  std::shared_ptr<const Device> device;
  std::shared_ptr<const Backend> backend;
};

struct Placement {
  // The first one has everything, including the KV caches, except routed experts that others have.
  std::vector<OpenDevice> devices;
  // The device index of every routed expert, numbered through all layers. Empty: all are on the first.
  std::vector<uint8_t> device_of_expert;

  static Placement on(OpenDevice device) { return {{std::move(device)}, {}}; }
  // Routed experts on one device, everything else on another.
  static Placement with_experts_on(OpenDevice main, OpenDevice of_experts, const Config& config) {
    return {{std::move(main), std::move(of_experts)},
            std::vector<uint8_t>(config.n_moe_layers() * config.router.n_experts(), 1)};
  }
  size_t device_of(size_t expert) const { return device_of_expert.empty() ? 0 : device_of_expert[expert]; }
  size_t device_of(const TensorSpec& tensor) const {
    return tensor.kind == TensorKind::routed ? device_of(static_cast<size_t>(tensor.expert_of_all)) : 0;
  }
};

}  // namespace finermoe
