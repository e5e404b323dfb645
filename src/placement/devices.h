// The devices of this machine, by name.
#pragma once

#include <string>
#include <string_view>

#include "backend/device.h"

namespace finermoe {

// Those that are built in, and those of a module, if `module` is not empty. The module stays loaded for as long as the
// process lives. FILE_NOT_FOUND, FILE_UNREADABLE for what is no shared library, UNSUPPORTED for one that is no module,
// or one of another build.
Result<DeviceList> list_devices(DeviceList built_in, const std::string& module);
// UNSUPPORTED where there is none of this name. An empty name stands for the first.
Result<std::shared_ptr<const Device>> find_device(const DeviceList& devices, std::string_view name);

}  // namespace finermoe
