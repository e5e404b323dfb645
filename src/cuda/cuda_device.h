// NVIDIA GPUs as devices.
#pragma once

#include "backend/device.h"
#include "cuda/driver.h"

namespace finermoe::cuda {

// The devices of a started driver, in its order, named "cuda:0", "cuda:1" … for the prefix "cuda". Creates no context.
Result<DeviceList> list_devices(std::shared_ptr<const Driver> driver, const std::string& prefix);
// A device of another machine, by index or UUID, for a plan; null for any other name.
std::shared_ptr<const Device> device_elsewhere(std::string_view name, std::string_view prefix);

}  // namespace finermoe::cuda
