#include "backend/backend.h"
#include "base/places.h"

namespace finermoe {
namespace {

uint64_t place(Activations& a, DevicePtr<std::byte> memory, const Config& config, size_t n) {
  const RouterShape& router = config.router;
  const uint64_t n_routed = config.is_moe() ? n : 0;
  Places places(memory.number());
  const auto put = [&]<class T>(DevicePtr<T>& array, uint64_t n_elements) {
    array = DevicePtr<T>::at(places.next(n_elements * sizeof(T)));
  };
  put(a.x, n * config.hidden_size);
  put(a.normed, n * config.hidden_size);
  put(a.q, n * config.q_width());
  put(a.attended, n * config.q_width());
  put(a.routed, config.has_concat_proj ? n_routed * config.hidden_size : 0);
  put(a.route.logits, n_routed * router.n_experts());
  put(a.route.experts, n_routed * router.n_experts_per_token());
  put(a.route.weights, n_routed * router.n_experts_per_token());
  put(a.route.groups, n_routed * router.granularity_output);
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
