// NVIDIA GPUs as devices.
#pragma once

#include "backend/device.h"
#include "cuda/driver.h"

namespace finermoe::cuda {

// Those of a driver that is ready to be used, in its order: "cuda:0", "cuda:1" … for the prefix "cuda". Makes no
// context.
Result<DeviceList> list_devices(std::shared_ptr<const Driver> driver, const std::string& prefix);

}  // namespace finermoe::cuda
