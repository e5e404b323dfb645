// The CPU as a device.
#pragma once

#include <optional>

#include "backend/device.h"
#include "base/cpu_features.h"
#include "cpu/blas.h"
#include "cpu/kernels.h"
#include "cpu/tuning.h"

namespace finermoe {

// FINERMOE_ISA_AUTO resolved for a machine with these features, or FINERMOE_ERROR_UNSUPPORTED for a set that it lacks.
Result<int32_t> resolve_isa(int32_t isa, const CpuFeatures& features);
// The same for this machine. AUTO is what acquire_isa() would take, as far as the calling thread can see.
Result<int32_t> resolve_isa(int32_t isa);
// The same, for use: asks the system for what the set needs. AUTO takes another set where the system refuses.
Result<int32_t> acquire_isa(int32_t isa);
// The kernels of an instruction set, which this machine must support; their name is static.
const Kernels& kernels_of(int32_t isa);
const char* kernels_name(int32_t isa);

// With a BLAS library it is left what it computes faster than the portable kernels; null: nothing is. The tuning is
// that of the processor, or the caller's. Steps have room for any instruction set up to the best one.
std::shared_ptr<const Device> cpu_device(std::shared_ptr<const Blas> blas = nullptr, std::optional<Tuning> tuning = {},
                                         int32_t best_isa = *resolve_isa(FINERMOE_ISA_AUTO));

// Whether a library computes products faster than the kernels of an instruction set, on so many threads.
bool is_faster(const Blas& blas, int32_t isa, uint32_t n_threads);

// Weights are used in place.
class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, std::shared_ptr<ThreadPool> pool, std::shared_ptr<const Blas> blas = nullptr,
             const Tuning& tuning = {}, int32_t best_isa = *resolve_isa(FINERMOE_ISA_AUTO))
      : kernels_(kernels), tuning_(tuning), best_isa_(best_isa), pool_(std::move(pool)), blas_(std::move(blas)) {}

  Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                          std::shared_ptr<MemoryAccount> account) const override;
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override;
  Result<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override;
  Result<BoundWeights> bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                            const Progress& progress) const override;
  uint32_t quantized_dtypes() const override;
  size_t most_rows_as_alone() const override { return SIZE_MAX; }

 private:
  const Kernels& kernels_;
  const Tuning tuning_;
  const int32_t best_isa_;  // that steps have room for
  const std::shared_ptr<ThreadPool> pool_;
  const std::shared_ptr<const Blas> blas_;
};

}  // namespace finermoe
