// Sums and products of sizes that others chose: UINT64_MAX where they would be larger, which no allocation grants.
#pragma once

#include <cstdint>

namespace finermoe {

inline uint64_t saturating_sum(uint64_t a, uint64_t b) {
  uint64_t sum = 0;
  return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

inline uint64_t saturating_product(uint64_t a, uint64_t b) {
  uint64_t product = 0;
  return __builtin_mul_overflow(a, b, &product) ? UINT64_MAX : product;
}

}  // namespace finermoe
