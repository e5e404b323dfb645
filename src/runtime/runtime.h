// What models share: threads, the memory account, the device, the host's log.
#pragma once

#include <memory>
#include <optional>

#include "backend/profiled_backend.h"
#include "base/allocation.h"
#include "base/printable.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "placement/placement.h"

namespace finermoe {

struct RuntimeOptions {
  uint32_t n_threads = 0;           // 0: as many as this process may use
  int32_t isa = FINERMOE_ISA_AUTO;  // resolved to one that the machine supports before a runtime is created
  uint64_t memory_limit = 0;        // bytes; 0: none
  finermoe_log_fn log = nullptr;
  void* log_user = nullptr;
  finermoe_executor_fn executor = nullptr;
  void* executor_user = nullptr;
  bool profile = false;
  std::string device;                       // its name; empty: the first
  std::string device_module;                // a path; empty: the one that is found, if `device` needs it
  std::optional<std::string> blas_library;  // to be opened: a path; empty: as the system finds it
  // Of the library, once it was opened: what it says of itself, and whether the CPU's products are left to it.
  std::string blas;
  bool uses_blas = false;
};

class Runtime {
 public:
  // On one of the built-in devices or one of the module's.
  static Result<std::shared_ptr<Runtime>> create(const RuntimeOptions& options, DeviceList built_in);

  int32_t isa() const { return options_.isa; }
  const std::string& blas() const { return options_.blas; }
  bool uses_blas() const { return options_.uses_blas; }
  const std::shared_ptr<ThreadPool>& pool() const { return pool_; }
  const OpenDevice& device() const { return device_; }
  // Opens one of the devices available to the runtime, or returns its own; errors are those of find_device().
  Result<OpenDevice> open_device(std::string_view name) const;
  const std::shared_ptr<MemoryAccount>& account() const { return account_; }
  const std::shared_ptr<Profile>& profile() const { return profile_; }  // null: nothing is measured
  // STATE in a child of fork(): the threads do not exist there, and locks that other threads held at that moment stay
  // held forever.
  Status check_process() const;
  void log(int32_t level, const std::string& message) const {
    if (options_.log != nullptr) options_.log(options_.log_user, level, printable(message).c_str());
  }

 private:
  Runtime() = default;
  // Those among which a device of this name is to be found: the module that nobody named is opened for it alone.
  Result<DeviceList> devices_for(std::string_view name) const;
  RuntimeOptions options_;
  DeviceList devices_;
  std::shared_ptr<ThreadPool> pool_;
  OpenDevice device_;
  std::shared_ptr<MemoryAccount> account_;
  std::shared_ptr<Profile> profile_;
};

}  // namespace finermoe
