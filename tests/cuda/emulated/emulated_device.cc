#include "emulated_device.h"

#include "cuda/cuda_device.h"
#include "emulated_driver.h"

namespace finermoe {

std::shared_ptr<const Device> emulated_cuda_device() {
  return (*cuda::list_devices(emulated::driver(), "cuda-emulated"))[0];
}
std::shared_ptr<Backend> emulated_cuda() { return *emulated_cuda_device()->open({}); }

}  // namespace finermoe
