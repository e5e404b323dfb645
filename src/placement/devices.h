// The devices of this machine, by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "backend/device.h"

namespace finermoe {

// The built-in devices, and those of a module if `module` is not empty. The module stays loaded until the process ends.
// FILE_NOT_FOUND, FILE_UNREADABLE for something other than a shared library, UNSUPPORTED for one that is not a module,
// or that comes from another build.
Result<DeviceList> list_devices(DeviceList built_in, const std::string& module);
// Where a module is that nobody has named: libfinermoe_cuda.so in the first of these folders that has it, or nothing.
std::string find_module(const std::vector<std::string>& folders);
// The folder that this code was loaded from, and the one that it was built to be installed in.
std::vector<std::string> module_folders();
// The devices, and those of that module. A module that is not there, or that has no device, adds none.
DeviceList list_found_devices(DeviceList devices);
// The same if `name` is that of one of the module's devices, and none of them is among the devices yet; but then a
// module that has no device is an error. Nobody else has the module opened, and a driver started.
Result<DeviceList> list_devices_for(DeviceList devices, std::string_view name);

// The device of this name, or of this UUID or the beginning of it: "cuda:GPU-1b4e28ba". An empty name means the first.
// NO_DEVICE for a name like another's, UNSUPPORTED for any other; UNSUPPORTED for several names, INVALID_ARGUMENT for
// what several UUIDs begin with.
Result<std::shared_ptr<const Device>> find_device(const DeviceList& devices, std::string_view name);

// The same among the built-in devices and those of a module, which is found if the name needs one and none is given.
// The device may be on another machine: then it is one that only a plan can use.
Result<std::shared_ptr<const Device>> find_device_to_plan_for(const DeviceList& built_in, std::string module,
                                                              std::string_view name);

}  // namespace finermoe
