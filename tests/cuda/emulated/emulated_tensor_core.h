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

template <DType half>
void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  const emulated::Words* const lanes = emulated::share({a[0], a[1], a[2], a[3], b0, b1});
  const unsigned row = emulated_lane() / 4, column = emulated_lane() % 4 * 2;
  for (unsigned k = 0; k < 8; k++) {  // pairs of columns of both
    for (unsigned i = 0; i < 4; i++) {
      float x[2], w[2];
      unpack_pair<half>(lanes[row * 4 + k % 4][k / 4 * 2 + i / 2], x);
      unpack_pair<half>(lanes[(column + i % 2) * 4 + k % 4][4 + k / 4], w);
      sums[i] += x[0] * w[0] + x[1] * w[1];
    }
  }
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
