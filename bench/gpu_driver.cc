#include "gpu_limits.h"

namespace finermoe::cuda {

Result<std::shared_ptr<const Driver>> driver_to_measure() { return load_driver(); }

}  // namespace finermoe::cuda
