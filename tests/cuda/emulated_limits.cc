// What bench/gpu_limits.cc needs, on the emulated device.
#include "emulated/emulated_driver.h"
#include "gpu_limits.h"
#include "gpu_read.cu"

namespace finermoe::cuda {

Result<std::shared_ptr<const Driver>> driver_to_measure() {
  emulated::settings().has_blas = true;
  FM_TRY(start_driver(*emulated::driver()));
  return emulated::driver();
}

}  // namespace finermoe::cuda
