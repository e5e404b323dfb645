#include "model/scratch.h"

namespace finermoe {
namespace {

// Elements of 4 bytes in the host's arrays.
struct HostArrays {
  uint64_t choices = 0, hidden = 0;

  HostArrays(const Model& model, size_t n_rows) {
    const bool has_other_devices = model.placement.devices.size() > 1;
    if (has_other_devices || model.expert_pages) choices = n_rows * model.config.router.n_experts_per_token();
    if (has_other_devices) hidden = n_rows * model.config.hidden_size;
  }
  uint64_t bytes() const { return (2 * choices + hidden) * 4; }
};

}  // namespace

uint64_t Scratch::bytes(const Model& model, size_t n_rows, uint64_t n_positions, size_t n_threads) {
  uint64_t sum = HostArrays(model, n_rows).bytes();
  for (const OpenDevice& device : model.placement.devices) {
    sum += device.device->step_bytes(model.config, n_rows, n_positions, n_threads);
  }
  return sum;
}

Result<std::unique_ptr<Scratch>> Scratch::make(const Model& model, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account) {
  auto scratch = std::make_unique<Scratch>();
  for (const OpenDevice& device : model.placement.devices) {
    FM_ASSIGN(auto step, device.backend->make_step(model.config, n_rows, n_positions, account));
    scratch->steps_.push_back(std::move(step));
  }
  const HostArrays arrays(model, n_rows);
  if (arrays.bytes() == 0) return scratch;
  FM_ASSIGN(scratch->host_, Buffer::allocate(std::move(account), arrays.bytes(), "scratch"));
  scratch->experts = scratch->host_.data<int32_t>();
  scratch->weights = scratch->host_.data<float>() + arrays.choices;
  scratch->hidden = scratch->weights + arrays.choices;
  return scratch;
}

}  // namespace finermoe
