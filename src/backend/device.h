// What is known about a device before it is opened, and how it is opened.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "backend/backend.h"
#include "base/thread_pool.h"

namespace finermoe {

struct DeviceInfo {  // finermoe_device_info documents the fields
  int32_t kind = FINERMOE_DEVICE_OTHER;
  std::string description, version;
  uint64_t memory = 0, memory_available = 0;
  uint32_t weight_dtypes = 0, kv_dtypes = 0;
};

struct DeviceOptions {
  int32_t isa = FINERMOE_ISA_AUTO;
  std::shared_ptr<ThreadPool> pool;
};

class Device {
 public:
  virtual ~Device() = default;
  virtual const char* name() const = 0;  // static
  // What names this device wherever it stands in the list, "GPU-…"; empty where there is no such thing.
  virtual std::string uuid() const { return {}; }
  virtual bool copies_weights() const = 0;
  virtual DeviceInfo info() const = 0;  // current values: queries the system
  virtual Result<std::shared_ptr<Backend>> open(const DeviceOptions& options) const = 0;
  // What a plan needs without opening the device: bytes of a step for this many threads, and of a cache (UINT64_MAX on
  // overflow).
  virtual uint64_t step_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) const = 0;
  virtual uint64_t kv_cache_bytes(const KvShape& shape) const = 0;
  // The same for the host's memory that a queue of copies has on the account.
  virtual uint64_t copy_queue_bytes() const { return 0; }
};
using DeviceList = std::vector<std::shared_ptr<const Device>>;

// What a device module provides: a shared library that exports a function named device_module_entry which returns this.
// C++ objects cross this boundary, so it must be built from the same headers by the same compiler as the libfinermoe
// that opens it: `build` is compared with that library's FINERMOE_BUILD_ID before anything else is read.
struct DeviceModule {
  const char* build;
  Result<DeviceList> (*devices)();
  // A device of this name that need not be here, for a plan: it counts bytes, and opening it is NO_DEVICE. Null for a
  // name that the module would give to none.
  std::shared_ptr<const Device> (*device_to_plan_for)(std::string_view name);
};
using DeviceModuleEntry = const DeviceModule* (*)();
constexpr const char* device_module_entry = "finermoe_device_module";

}  // namespace finermoe
