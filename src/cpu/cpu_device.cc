#include "cpu/cpu_device.h"

#include <algorithm>

#include "base/system_memory.h"
#include "cpu/cpu_kv_cache.h"
#include "cpu/cpu_step.h"

namespace finermoe {
namespace {

struct NamedKernels {
  const char* name;
  const Kernels& kernels;
};

NamedKernels named_kernels_of(int32_t isa) {
#if defined(__x86_64__)
  if (isa == FINERMOE_ISA_AMX) return {"amx", amx::kernels};
  if (isa == FINERMOE_ISA_AVX512) return {"avx512", avx512::kernels};
  if (isa == FINERMOE_ISA_AVX2 && detect_cpu_features().avx_vnni) return {"avx2-vnni", avx2_vnni::kernels};
  if (isa == FINERMOE_ISA_AVX2) return {"avx2", avx2::kernels};
#endif
  (void)isa;
  return {"portable", portable::kernels};
}

class HostMemory final : public DeviceMemory {
 public:
  explicit HostMemory(Buffer buffer) : DeviceMemory(DevicePtr(buffer.data())), buffer_(std::move(buffer)) {}

 private:
  const Buffer buffer_;
};

class CpuDevice final : public Device {
 public:
  CpuDevice(const Tuning& tuning, std::shared_ptr<const Blas> blas, int32_t best_isa)
      : tuning_(tuning), blas_(std::move(blas)), best_isa_(best_isa) {}
  const char* name() const override { return "cpu"; }
  bool copies_weights() const override { return false; }
  DeviceInfo info() const override {
    const auto bit = [](DType dtype) { return 1u << static_cast<uint32_t>(dtype); };
    const uint32_t kv_dtypes = bit(DType::f32) | bit(DType::f16) | bit(DType::bf16) | bit(DType::q8);
    return {.kind = FINERMOE_DEVICE_CPU,
            .description = processor_name(),
            .version = kernels_name(best_isa_),
            .memory = total_memory(),
            .memory_available = available_memory(),
            .weight_dtypes = kv_dtypes | bit(DType::q4),
            .kv_dtypes = kv_dtypes};
  }
  Result<std::shared_ptr<Backend>> open(const DeviceOptions& options) const override {
    FM_ASSIGN(const int32_t isa, acquire_isa(options.isa));
    return std::shared_ptr<Backend>(
        std::make_shared<CpuBackend>(kernels_of(isa), options.pool, blas_, tuning_, std::max(isa, best_isa_)));
  }
  uint64_t step_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) const override {
    return StepMemory::bytes(config, n_rows, n_positions, n_threads, {best_isa_, blas_ != nullptr});
  }
  uint64_t kv_cache_bytes(const KvShape& shape) const override { return CpuKvCache::bytes(shape); }

 private:
  const Tuning tuning_;
  const std::shared_ptr<const Blas> blas_;
  const int32_t best_isa_;
};

}  // namespace

std::shared_ptr<const Device> cpu_device(std::shared_ptr<const Blas> blas, std::optional<Tuning> tuning,
                                         int32_t best_isa) {
  return std::make_shared<CpuDevice>(tuning ? *tuning : tuning_of(processor_model(), detect_cpu_features()),
                                     std::move(blas), best_isa);
}

// By half and up to more than twice: that is lost if the threads wait for each other.
bool is_faster(const Blas& blas, int32_t isa, uint32_t n_threads) {
  return isa == FINERMOE_ISA_PORTABLE && n_threads <= blas.calls_at_once();
}

const Kernels& kernels_of(int32_t isa) { return named_kernels_of(isa).kernels; }
const char* kernels_name(int32_t isa) { return named_kernels_of(isa).name; }

Result<int32_t> resolve_isa(int32_t isa, const CpuFeatures& features) {
  const int32_t best = features.amx      ? FINERMOE_ISA_AMX
                       : features.avx512 ? FINERMOE_ISA_AVX512
                       : features.avx2   ? FINERMOE_ISA_AVX2
                                         : FINERMOE_ISA_PORTABLE;
  if (isa == FINERMOE_ISA_AUTO) return best;
  if (isa < FINERMOE_ISA_AUTO || isa > FINERMOE_ISA_AMX) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the instruction set is not one of FINERMOE_ISA_…",
                  format_text("0 to ", FINERMOE_ISA_AMX + 0), format_text(isa));
  }
  if (isa <= best) return isa;
  const char* names[] = {"", "portable", "AVX2", "AVX-512", "AMX"};
  return Status(FINERMOE_ERROR_UNSUPPORTED,
                format_text("this machine lacks the instruction set ", names[isa], ": it has up to ", names[best]),
                names[isa], names[best]);
}

Result<int32_t> resolve_isa(int32_t isa) {
  CpuFeatures features = detect_cpu_features();
  if (isa == FINERMOE_ISA_AUTO) features.amx = features.amx && may_request_amx();
  return resolve_isa(isa, features);
}

Result<int32_t> acquire_isa(int32_t isa) {
  FM_ASSIGN(const int32_t resolved, resolve_isa(isa));
  if (resolved != FINERMOE_ISA_AMX || request_amx()) return resolved;
  if (isa == FINERMOE_ISA_AUTO) return FINERMOE_ISA_AVX512 + 0;
  return Status(
      FINERMOE_ERROR_UNSUPPORTED,
      "the system refuses this process the use of AMX: an alternate signal stack of a thread may be too small "
      "for its tiles (sigaltstack, AT_MINSIGSTKSZ)",
      "AMX", "refused");
}

uint32_t CpuBackend::quantized_dtypes() const {
  uint32_t bits = 0;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    for (const size_t n : {size_t{1}, matmul_max_vectors}) {
      const bool quantizes = kernels_.fast_form(dtype, n, tuning_.bf16_dots) != Form::floats;
      bits |= static_cast<uint32_t>(quantizes) << static_cast<uint32_t>(dtype);
    }
  }
  return bits;
}

Result<std::unique_ptr<Step>> CpuBackend::make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                                    std::shared_ptr<MemoryAccount> account) const {
  FM_ASSIGN(auto step,
            CpuStep::make(kernels_, tuning_, best_isa_, blas_, pool_, config, n_rows, n_positions, std::move(account)));
  return std::unique_ptr<Step>(std::move(step));
}

Result<std::unique_ptr<KvCache>> CpuBackend::make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                           std::string_view what) const {
  FM_ASSIGN(auto cache, CpuKvCache::make(shape, pool_, std::move(account), what));
  return std::unique_ptr<KvCache>(std::move(cache));
}

Result<std::unique_ptr<DeviceMemory>> CpuBackend::allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                           std::string_view what) const {
  FM_ASSIGN(Buffer buffer, Buffer::allocate(std::move(account), bytes, what));
  return std::unique_ptr<DeviceMemory>(std::make_unique<HostMemory>(std::move(buffer)));
}

Result<BoundWeights> CpuBackend::bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount>,
                                      const Progress&) const {
  BoundWeights bound;
  for (const Tensor* tensor : tensors) {
    bound.views.push_back({DevicePtr(tensor->data), tensor->dtype, tensor->rows, tensor->columns});
  }
  return bound;
}

}  // namespace finermoe
