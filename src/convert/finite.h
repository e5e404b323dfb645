// NaN and infinity among weights.
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

// data [bytes / size_of(dtype)]
NonFinite count_non_finite(DType dtype, const std::byte* data, uint64_t bytes);

// Reads every weight once; NOT_FINITE names the first tensor that holds a NaN or infinity. Phase "verify", in bytes.
Status refuse_not_finite(const Checkpoint& checkpoint, const Progress& progress);

}  // namespace finermoe
