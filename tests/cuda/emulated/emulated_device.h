// The CUDA device over the emulated driver, for the tests.
#pragma once

#include "backend/device.h"

namespace finermoe {

// Its name is "cuda-emulated:0".
std::shared_ptr<const Device> emulated_cuda_device();
std::shared_ptr<Backend> emulated_cuda();

}  // namespace finermoe
