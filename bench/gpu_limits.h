// What gpu_limits.cc measures with.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "cuda/driver.h"

namespace finermoe::cuda {

// Enqueues one reading of `bytes`, a multiple of 16, by n_blocks blocks that each read every n_blocks-th piece; `out`
// has room for a number. Answers the driver's code.
int enqueue_read(void* stream, const std::byte* from, size_t bytes, unsigned n_blocks, uint32_t* out);

// NVIDIA's, or one that the tests emulate.
Result<std::shared_ptr<const Driver>> driver_to_measure();

}  // namespace finermoe::cuda
