#include "model/scratch.h"

namespace finermoe {
namespace {

// Those that the host needs: for experts that are read from disk or fetched, the choices alone.
ExchangeArrays host_arrays(const Model& model, size_t n_rows) {
  const bool has_other_devices = model.placement.devices.size() > 1;
  if (!has_other_devices && !model.expert_pages && !model.expert_cache) return {};
  ExchangeArrays arrays(model.config, n_rows);
  if (!has_other_devices) arrays.hidden = 0;
  return arrays;
}

}  // namespace

uint64_t Scratch::bytes(const Model& model, size_t n_rows, uint64_t n_positions, size_t n_threads) {
  uint64_t sum = host_arrays(model, n_rows).bytes();
  for (const OpenDevice& device : model.placement.devices) {
    sum += device.device->step_bytes(model.config, n_rows, n_positions, n_threads);
  }
  return sum;
}

Result<std::unique_ptr<Scratch>> Scratch::make(const Model& model, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account) {
  auto scratch = std::make_unique<Scratch>(model);
  for (const OpenDevice& device : model.placement.devices) {
    FM_ASSIGN(auto step, device.backend->make_step(model.config, n_rows, n_positions, account));
    scratch->steps_.push_back(std::move(step));
  }
  const ExchangeArrays arrays = host_arrays(model, n_rows);
  if (arrays.bytes() == 0) return scratch;
  FM_ASSIGN(scratch->host_, Buffer::allocate(std::move(account), arrays.bytes(), "scratch"));
  scratch->experts = scratch->host_.data<int32_t>();
  scratch->weights = scratch->host_.data<float>() + arrays.choices;
  scratch->hidden = scratch->weights + arrays.choices;
  return scratch;
}

Status Scratch::row_error(size_t row) const {
  for (const auto& step : steps_) FM_TRY(step->row_error(row));
  return {};
}

}  // namespace finermoe
