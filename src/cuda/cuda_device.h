// NVIDIA GPUs as devices.
#pragma once

#include "backend/device.h"
#include "cuda/driver.h"

namespace finermoe::cuda {

// The devices of a started driver, in its order, named "cuda:0", "cuda:1" … for the prefix "cuda". Creates no context.
Result<DeviceList> list_devices(std::shared_ptr<const Driver> driver, const std::string& prefix);

}  // namespace finermoe::cuda
