#include "runtime/runtime.h"

#include "placement/devices.h"

namespace finermoe {

Result<std::shared_ptr<Runtime>> Runtime::create(const RuntimeOptions& options, DeviceList built_in) {
  std::shared_ptr<Runtime> runtime(new Runtime);
  runtime->options_ = options;
  const uint32_t n_threads = options.n_threads != 0 ? options.n_threads : available_processors();
  runtime->pool_ = options.executor != nullptr
                       ? std::make_shared<ThreadPool>(options.executor, options.executor_user, n_threads)
                       : std::make_shared<ThreadPool>(n_threads);
  if (options.profile) runtime->profile_ = std::make_shared<Profile>();
  FM_ASSIGN(runtime->devices_, list_devices(std::move(built_in), options.device_module));
  FM_ASSIGN(runtime->devices_, runtime->devices_for(options.device));
  FM_ASSIGN(runtime->device_, runtime->open_device(options.device));
  runtime->account_ = std::make_shared<MemoryAccount>(options.memory_limit);
  return runtime;
}

Result<DeviceList> Runtime::devices_for(std::string_view name) const {
  if (!options_.device_module.empty()) return devices_;
  return list_devices_for(devices_, name);
}

Result<OpenDevice> Runtime::open_device(std::string_view name) const {
  FM_ASSIGN(const DeviceList devices, devices_for(name));
  FM_ASSIGN(const auto device, find_device(devices, name));
  if (device == device_.device) return device_;
  FM_ASSIGN(std::shared_ptr<Backend> backend, device->open({options_.isa, pool_}));
  if (profile_) backend = profiled(std::move(backend), profile_);
  return OpenDevice{device, std::move(backend)};
}

Status Runtime::check_process() const {
  if (!pool_->is_inherited()) return {};
  return Status(FINERMOE_ERROR_STATE,
                "the object was inherited by fork(): this process can only free it, and opens models of its own",
                "the process that made the object", "a child of it");
}

}  // namespace finermoe
