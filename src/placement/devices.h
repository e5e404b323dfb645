// The devices of this machine, by name.
#pragma once

#include <string>
#include <string_view>

#include "backend/device.h"

namespace finermoe {

// The built-in devices, and those of a module if `module` is not empty. The module stays loaded until the process ends.
// FILE_NOT_FOUND, FILE_UNREADABLE for something other than a shared library, UNSUPPORTED for one that is not a module,
// or that comes from another build.
Result<DeviceList> list_devices(DeviceList built_in, const std::string& module);
// UNSUPPORTED if there is none of this name. An empty name means the first.
Result<std::shared_ptr<const Device>> find_device(const DeviceList& devices, std::string_view name);

}  // namespace finermoe
