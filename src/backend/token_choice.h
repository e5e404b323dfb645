// How a device is told to choose a token, and what it chose. Plain data, for kernels too.
#pragma once

#include <cstdint>

namespace finermoe {

// The steps of docs/sampling.md that need nothing but the logits of the row.
struct TokenChoice {
  double temperature = 0;  // 0: the largest logit, and the rest has no meaning
  uint64_t top_k = 0;      // 0: all
  double top_p = 1, min_p = 0;
  double random = 0;  // in [0, 1)
};

struct ChosenToken {
  int32_t id = -1;               // -1: the device leaves this row to the host
  float logit = 0, largest = 0;  // of the token, and of all
  double sum = 0;                // of exp(logit - largest) over all
  bool operator==(const ChosenToken&) const = default;
};

}  // namespace finermoe
