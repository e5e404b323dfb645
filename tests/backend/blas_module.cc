// The CPU with its portable kernels and OpenBLAS, as on the processors that it is used on, as a device "blas": for
// tests through finermoe.h on a processor with better kernels.
#include "base/build_id.h"
#include "cpu/cpu_device.h"

namespace finermoe {
namespace {

class BlasDevice final : public Device {
 public:
  explicit BlasDevice(std::shared_ptr<const Blas> blas) : cpu_(cpu_device(std::move(blas))) {}
  const char* name() const override { return "blas"; }
  bool copies_weights() const override { return false; }
  DeviceInfo info() const override { return cpu_->info(); }
  Result<std::shared_ptr<Backend>> open(const DeviceOptions& options) const override {
    return cpu_->open({FINERMOE_ISA_PORTABLE, options.pool});
  }
  uint64_t step_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) const override {
    return cpu_->step_bytes(config, n_rows, n_positions, n_threads);
  }
  uint64_t kv_cache_bytes(const KvShape& shape) const override { return cpu_->kv_cache_bytes(shape); }

 private:
  const std::shared_ptr<const Device> cpu_;
};

Result<DeviceList> devices() {
  FM_ASSIGN(auto blas, Blas::open({}));
  return DeviceList{std::make_shared<BlasDevice>(std::move(blas))};
}

}  // namespace
}  // namespace finermoe

extern "C" __attribute__((visibility("default"))) const finermoe::DeviceModule* finermoe_device_module() {
  static const finermoe::DeviceModule module{
      FINERMOE_BUILD_ID, finermoe::devices, [](std::string_view) { return std::shared_ptr<const finermoe::Device>(); }};
  return &module;
}
