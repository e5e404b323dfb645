// Weights that a writer rejects as input: NaN, infinity, blocks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/progress.h"
#include "format/checkpoint.h"

namespace finermoe {

struct NonFinite {
  uint64_t n_nan = 0, n_infinite = 0;
  bool any() const { return n_nan + n_infinite != 0; }
};

// data: elements, or blocks, whose scales are checked.
NonFinite count_non_finite(DType dtype, const std::byte* data, uint64_t bytes);

// Reads every weight once; NOT_FINITE names the first tensor that holds a NaN or infinity. Phase "verify", in bytes.
Status refuse_not_finite(const Checkpoint& checkpoint, const Progress& progress);

// UNSUPPORTED if the model at `path` has matrices in blocks.
Status refuse_quantized(const Checkpoint& checkpoint, const std::string& path);

// `bytes` rounded down to whole elements or blocks.
constexpr uint64_t whole_items(DType dtype, uint64_t bytes) {
  return bytes - bytes % (is_blocked(dtype) ? block_bytes(dtype) : size_of(dtype));
}

}  // namespace finermoe
