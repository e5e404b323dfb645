#include "cuda/cuda_device.h"

#include <algorithm>

#include "cuda/copy_queue.h"
#include "cuda/cuda_kv_cache.h"
#include "cuda/cuda_step.h"

namespace finermoe::cuda {
namespace {

class CudaMemory final : public DeviceMemory {
 public:
  explicit CudaMemory(Memory memory)
      : DeviceMemory(DevicePtr<std::byte>::at(memory.address())), memory_(std::move(memory)) {}

 private:
  const Memory memory_;
};

class CudaBackend final : public Backend {
 public:
  explicit CudaBackend(std::shared_ptr<const Context> context) : context_(std::move(context)) {}

  Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                          std::shared_ptr<MemoryAccount> account) const override {
    FM_ASSIGN(auto step, CudaStep::make(context_, config, n_rows, n_positions, std::move(account)));
    return std::unique_ptr<Step>(std::move(step));
  }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    FM_ASSIGN(auto cache, CudaKvCache::make(context_, shape, std::move(account), what));
    return std::unique_ptr<KvCache>(std::move(cache));
  }
  Result<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    FM_ASSIGN(Memory memory, Memory::allocate(context_, Memory::Where::device, bytes, std::move(account), what));
    return std::unique_ptr<DeviceMemory>(std::make_unique<CudaMemory>(std::move(memory)));
  }
  Result<BoundWeights> bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                            const Progress& progress) const override;
  Result<std::unique_ptr<CopyQueue>> make_copy_queue(std::shared_ptr<MemoryAccount> account) const override {
    FM_ASSIGN(auto queue, CudaCopyQueue::make(context_, std::move(account)));
    return std::unique_ptr<CopyQueue>(std::move(queue));
  }
  uint32_t quantized_dtypes() const override {
    const auto bit = [](DType dtype) { return 1u << static_cast<uint32_t>(dtype); };
    return context_->has_tensor_cores() ? bit(DType::f16) | bit(DType::bf16) | bit(DType::q8) | bit(DType::q4) : 0;
  }
  // Products of so many rows sum in the order of one.
  size_t most_rows_as_alone() const override { return most_few_rows; }
  size_t most_passes() const override { return cuda::most_passes; }

 private:
  const std::shared_ptr<const Context> context_;
};

Result<BoundWeights> CudaBackend::bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                                       const Progress& progress) const {
  uint64_t total = 0, done = 0;
  for (const Tensor* tensor : tensors) total += copied_bytes(tensor->bytes());
  BoundWeights bound;
  FM_ASSIGN(bound.memory, allocate(total, std::move(account), "the weights on the device"));
  for (const Tensor* tensor : tensors) {
    FM_TRY(progress.report("upload", done, total));
    const DevicePtr<std::byte> to = bound.memory->begin() + done;
    FM_TRY(context_->upload(to.number(), tensor->data, tensor->bytes()));
    bound.views.push_back({to, tensor->dtype, tensor->rows, tensor->columns});
    done += copied_bytes(tensor->bytes());
  }
  FM_TRY(progress.report("upload", total, total));
  return bound;
}

// What is known of every device, here or elsewhere.
class AnyCudaDevice : public Device {
 public:
  bool copies_weights() const override { return true; }
  uint64_t step_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t) const override {
    return CudaStep::bytes(config, n_rows, n_positions);
  }
  uint64_t kv_cache_bytes(const KvShape& shape) const override { return CudaKvCache::bytes(shape); }
  uint64_t copy_queue_bytes() const override { return CudaCopyQueue::bytes(); }
};

uint32_t weight_dtypes() {
  uint32_t bits = 0;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    bits |= 1u << static_cast<uint32_t>(dtype);
  }
  return bits;
}
uint32_t kv_dtypes() { return weight_dtypes() & ~(1u << static_cast<uint32_t>(DType::q4)); }

// A device of another machine.
class DeviceElsewhere final : public AnyCudaDevice {
 public:
  explicit DeviceElsewhere(std::string_view name) : name_(name) {}

  const char* name() const override { return name_.c_str(); }
  DeviceInfo info() const override {
    return {.kind = FINERMOE_DEVICE_GPU,
            .description = "not on this machine",
            .version = {},
            .memory = 0,
            .memory_available = 0,
            .weight_dtypes = weight_dtypes(),
            .kv_dtypes = kv_dtypes()};
  }
  Result<std::shared_ptr<Backend>> open(const DeviceOptions&) const override {
    return Status(FINERMOE_ERROR_NO_DEVICE, format_text(name_, " is not on this machine"), "a device", "none");
  }

 private:
  const std::string name_;
};

class CudaDevice final : public AnyCudaDevice {
 public:
  CudaDevice(std::shared_ptr<const Driver> driver, DeviceHandle device, std::string name)
      : driver_(std::move(driver)), device_(device), name_(std::move(name)) {}

  const char* name() const override { return name_.c_str(); }
  std::string uuid() const override;
  DeviceInfo info() const override;
  Result<std::shared_ptr<Backend>> open(const DeviceOptions&) const override {
    FM_ASSIGN(auto context, Context::open(driver_, device_));
    return std::shared_ptr<Backend>(std::make_shared<CudaBackend>(std::move(context)));
  }

 private:
  const std::shared_ptr<const Driver> driver_;
  const DeviceHandle device_;
  const std::string name_;
};

// As NVIDIA's own tools write it.
std::string CudaDevice::uuid() const {
  Uuid uuid{};
  driver_->device_uuid(&uuid, device_);
  constexpr const char* digits = "0123456789abcdef";
  std::string text = "GPU";
  for (size_t i = 0; i < sizeof uuid.bytes; i++) {
    if (i == 0 || i == 4 || i == 6 || i == 8 || i == 10) text += '-';
    text += digits[uuid.bytes[i] / 16];
    text += digits[uuid.bytes[i] % 16];
  }
  return text;
}

// A driver reports free memory only in a context, so memory_available is 0: unknown.
DeviceInfo CudaDevice::info() const {
  char model[80] = "";
  size_t memory = 0;
  int version = 0, major = 0, minor = 0;
  driver_->device_name(model, sizeof model, device_);
  driver_->device_memory(&memory, device_);
  driver_->driver_version(&version);
  driver_->device_attribute(&major, attribute_compute_major, device_);
  driver_->device_attribute(&minor, attribute_compute_minor, device_);
  return {.kind = FINERMOE_DEVICE_GPU,
          .description = format_text(static_cast<const char*>(model), ", ", uuid()),
          .version = format_text("CUDA ", version / 1000, ".", version % 1000 / 10, ", compute capability ", major, ".",
                                 minor),
          .memory = memory,
          .memory_available = 0,
          .weight_dtypes = weight_dtypes(),
          .kv_dtypes = kv_dtypes()};
}

}  // namespace

Result<DeviceList> list_devices(std::shared_ptr<const Driver> driver, const std::string& prefix) {
  int count = 0;
  FM_TRY(status_of(*driver, driver->device_count(&count), "counting devices"));
  DeviceList devices;
  for (int i = 0; i < count; i++) {
    DeviceHandle handle = 0;
    FM_TRY(status_of(*driver, driver->device_get(&handle, i), "finding a device"));
    devices.push_back(std::make_shared<CudaDevice>(driver, handle, format_text(prefix, ":", i)));
  }
  return devices;
}

std::shared_ptr<const Device> device_elsewhere(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix) || !name.substr(prefix.size()).starts_with(':')) return nullptr;
  const std::string_view which = name.substr(prefix.size() + 1);
  const bool is_index = !which.empty() && which.find_first_not_of("0123456789") == which.npos;
  if (!is_index && !which.starts_with("GPU-")) return nullptr;
  return std::make_shared<DeviceElsewhere>(name);
}

}  // namespace finermoe::cuda
