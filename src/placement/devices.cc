#include "placement/devices.h"

#include "base/build_id.h"
#include "base/shared_library.h"

namespace finermoe {

Result<DeviceList> list_devices(DeviceList built_in, const std::string& module) {
  if (module.empty()) return built_in;
  FM_ASSIGN(void* const entry, find_in_library(module, device_module_entry));
  if (entry == nullptr) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, format_text(module, " is not a device module of libfinermoe"),
                  device_module_entry, "a library without it");
  }
  const DeviceModule* const found = reinterpret_cast<DeviceModuleEntry>(entry)();
  if (std::string_view(found->build) != FINERMOE_BUILD_ID) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, format_text(module, " was built for a different build of libfinermoe"),
                  FINERMOE_BUILD_ID, found->build);
  }
  FM_ASSIGN(const DeviceList of_module, found->devices());
  built_in.insert(built_in.end(), of_module.begin(), of_module.end());
  return built_in;
}

Result<std::shared_ptr<const Device>> find_device(const DeviceList& devices, std::string_view name) {
  std::string names;
  for (const auto& device : devices) {
    const std::string_view own = device->name();
    if (name.empty() || name == own) return device;
    names += format_text(names.empty() ? "" : ", ", own);
  }
  return Status(FINERMOE_ERROR_UNSUPPORTED, format_text("there is no device \"", name, "\" here"), names,
                std::string(name));
}

}  // namespace finermoe
