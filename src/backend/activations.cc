#include "backend/backend.h"

namespace finermoe {
namespace {

// Hands out arrays of 4-byte elements one behind the other, each aligned to 64 bytes.
class Places {
 public:
  explicit Places(DevicePtr<std::byte> memory) : memory_(memory) {}
  template <class T>
  void put(DevicePtr<T>& array, uint64_t elements) {
    array = (memory_ + used_).template as<T>();
    used_ += (elements * sizeof(T) + 63) / 64 * 64;
  }
  uint64_t used() const { return used_; }

 private:
  const DevicePtr<std::byte> memory_;
  uint64_t used_ = 0;
};

uint64_t place(Activations& a, DevicePtr<std::byte> memory, const Config& config, size_t n) {
  const RouterShape& router = config.router;
  const uint64_t n_routed = config.is_moe() ? n : 0;
  Places places(memory);
  places.put(a.x, n * config.hidden_size);
  places.put(a.normed, n * config.hidden_size);
  places.put(a.q, n * config.q_width());
  places.put(a.attended, n * config.q_width());
  places.put(a.routed, config.has_concat_proj ? n_routed * config.hidden_size : 0);
  places.put(a.route.logits, n_routed * router.n_experts());
  places.put(a.route.experts, n_routed * router.n_experts_per_token());
  places.put(a.route.weights, n_routed * router.n_experts_per_token());
  places.put(a.route.groups, n_routed * router.granularity_output);
  return places.used();
}

}  // namespace

uint64_t Activations::bytes(const Config& config, size_t n_rows) {
  Activations measured;
  return place(measured, {}, config, n_rows);
}

Activations Activations::in(DevicePtr<std::byte> memory, const Config& config, size_t n_rows) {
  Activations activations;
  place(activations, memory, config, n_rows);
  return activations;
}

}  // namespace finermoe
