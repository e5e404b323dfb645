// Which of several ways to compute the same is the fastest on a processor. docs/performance.md has the measurement
// behind each choice.
#pragma once

#include <cstddef>

#include "base/cpu_features.h"

namespace finermoe {

struct Tuning {
  // Whether a dot product of BF16 pairs is faster than two float32 multiply-adds. Where it is not, activations that
  // meet BF16 weights stay in float32 at any precision, and so do queries and probabilities.
  bool bf16_dots = true;
  // How many bytes ahead of its loads a product of one or two vectors prefetches the weights; 0: not at all, because
  // the hardware prefetcher alone is faster.
  size_t prefetch = 0;
  // Whether a product of one vector with BF16, F16 or F32 weights reads four rows side by side, which it prefetches a
  // block of rows ahead, and not one row after the other; and one of up to two vectors with Q8 or Q4 weights four
  // panels, each prefetched a quarter of `prefetch` ahead, and one of four to 32 vectors with Q4 weights two panels.
  bool rows_side_by_side = false;
};

Tuning tuning_of(const ProcessorModel& processor, const CpuFeatures& features);

}  // namespace finermoe
