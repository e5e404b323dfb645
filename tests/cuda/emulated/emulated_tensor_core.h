// The instructions of tensor_core.cuh: lanes give each other what they have and compute their own part.
#pragma once

#include "block.h"
#include "cuda/kernels/numbers.cuh"
#include "emulated_shared_array.h"

namespace finermoe::cuda {

template <unsigned N>
void load_matrices(SharedArray<uint4, N>& from, unsigned row, uint32_t (&out)[4]) {
  const uint4 own = from[row];
  const emulated::Words* const rows = emulated::share({own.x, own.y, own.z, own.w});
  const unsigned lane = emulated_lane();
  for (unsigned m = 0; m < 4; m++) out[m] = rows[8 * m + lane / 4][lane % 4];
}
template <unsigned N>
void load_transposed(SharedArray<uint4, N>& from, unsigned row, uint32_t (&out)[4]) {
  const uint4 own = from[row];
  const emulated::Words* const rows = emulated::share({own.x, own.y, own.z, own.w});
  const unsigned lane = emulated_lane(), column = lane / 4;
  for (unsigned m = 0; m < 4; m++) {
    out[m] = 0;
    for (unsigned i = 0; i < 2; i++) {
      const uint32_t pair = rows[8 * m + lane % 4 * 2 + i][column / 2];
      out[m] |= (column % 2 == 0 ? pair & 0xffff : pair >> 16) << (16 * i);
    }
  }
}

// What a lane has of a product.
struct ProductOfLane {
  float* sums;
  const uint32_t* a;
  uint32_t b[2];
};
// The product of all lanes, by the last one, which unpacks each number once.
template <DType half>
void multiply_lanes(emulated::Words* lanes) {
  float a[16][16], b[8][16];
  for (unsigned lane = 0; lane < warp_size; lane++) {
    const auto& own = *emulated::shared_pointer<ProductOfLane>(lanes[lane]);
    const unsigned row = lane / 4, column = lane % 4 * 2;
    for (unsigned i = 0; i < 4; i++) unpack_pair<half>(own.a[i], &a[row + i % 2 * 8][column + i / 2 * 8]);
    for (unsigned i = 0; i < 2; i++) unpack_pair<half>(own.b[i], &b[row][column + i * 8]);
  }
  for (unsigned lane = 0; lane < warp_size; lane++) {
    float* const sums = emulated::shared_pointer<ProductOfLane>(lanes[lane])->sums;
    for (unsigned i = 0; i < 4; i++) {
      const float *const of_a = a[lane / 4 + i / 2 * 8], *const of_b = b[lane % 4 * 2 + i % 2];
      for (unsigned k = 0; k < 16; k += 2) sums[i] += of_a[k] * of_b[k] + of_a[k + 1] * of_b[k + 1];
    }
  }
}
template <DType half>
void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  ProductOfLane own{sums, a, {b0, b1}};
  emulated::share(emulated::words_of(&own), multiply_lanes<half>);
}

template <unsigned N>
void copy_async(SharedArray<uint4, N>& to, unsigned place, const void* from, unsigned n_bytes) {
  uint4 value{};
  if (n_bytes > 16 || reinterpret_cast<uintptr_t>(from) % 16 != 0) {
    emulated::report("global memory: a copy that is not aligned");
  } else if (n_bytes > 0 && !emulated::is_allocated(from, n_bytes)) {
    emulated::report("global memory: a copy from outside of every allocation");
  } else if (n_bytes > 0) {
    std::memcpy(&value, from, n_bytes);
  }
  to[place].begin_copy(value);
}
inline void commit_copies() { emulated::current().copies->n_groups++; }
template <unsigned N>
void wait_for_copies() {
  emulated::Copies& copies = *emulated::current().copies;
  auto copy = copies.begun.begin();
  for (; copy != copies.begun.end() && copy->group + N < copies.n_groups; ++copy) copy->finish(copy->cell);
  copies.begun.erase(copies.begun.begin(), copy);
}

template <DType half>
uint32_t pack_pair(float low, float high) {
  const auto round = [](float x) -> uint32_t { return half == DType::bf16 ? to_bf16(x) : to_f16(x); };
  return round(low) | round(high) << 16;
}

}  // namespace finermoe::cuda
