// Sums and products of untrusted sizes: UINT64_MAX on overflow, which no allocation can satisfy.
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
