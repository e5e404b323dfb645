// What multiplying on tensor cores takes, an instruction each. They are those of compute capability 8.0; on older
// devices no kernel that has them is launched. The tests' emulation has its own.
#pragma once

#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"

#ifdef __CUDACC__
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 800
#define FINERMOE_PTX "trap; // "  // so the instruction behind it is a comment
#else
#define FINERMOE_PTX ""
#endif

namespace finermoe::cuda {

// Four 8 × 8 matrices of 16 bits. A row is 16 bytes, a place of the array; lane 8 m + r says where row r of matrix m
// is. Each lane gets two neighbours of each matrix: row lane / 4, columns from lane % 4 * 2 on.
template <unsigned N>
__device__ inline void load_matrices(SharedArray<uint4, N>& from, unsigned row, uint32_t (&out)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&from[row]));
  asm volatile(FINERMOE_PTX "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}
// The same, each matrix transposed: a lane gets rows from lane % 4 * 2 on, of column lane / 4.
template <unsigned N>
__device__ inline void load_transposed(SharedArray<uint4, N>& from, unsigned row, uint32_t (&out)[4]) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&from[row]));
  asm volatile(FINERMOE_PTX "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"(address)
               : "memory");
}

// sums += a b^T of a warp, in float32: a [16, 16], b [8, 16], sums [16, 8], in 16 bits of the type `half`. With g =
// lane / 4 and t = lane % 4 * 2, a lane has of a: rows g, g + 8, g, g + 8 and columns t, t, t + 8, t + 8 on; of b: row
// g, columns t, t + 8 on; of the sums: row g, columns t and t + 1, then row g + 8.
template <DType half>
__device__ inline void multiply_add(float (&sums)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  if constexpr (half == DType::bf16) {
    asm(FINERMOE_PTX
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  } else {
    asm(FINERMOE_PTX
        "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
        "{%8, %9}, {%0, %1, %2, %3};"
        : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
        : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
  }
}

// Begins to copy the first n_bytes of 16 to a place in shared memory, the rest become zeros. n_bytes 0 reads nothing.
template <unsigned N>
__device__ inline void copy_async(SharedArray<uint4, N>& to, unsigned place, const void* from, unsigned n_bytes) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(&to[place]));
  asm volatile(FINERMOE_PTX "cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(__cvta_generic_to_global(from)), "r"(n_bytes)
               : "memory");
}
// A thread's copies since the last commit become a group; wait_for_copies() returns when all but its last N groups are
// done, for itself: for other threads there has to be a barrier after it.
__device__ inline void commit_copies() { asm volatile(FINERMOE_PTX "cp.async.commit_group;" ::: "memory"); }
template <unsigned N>
__device__ inline void wait_for_copies() {
  asm volatile(FINERMOE_PTX "cp.async.wait_group %0;" ::"n"(N) : "memory");
}

// Two numbers as 16 bits each, rounded to nearest.
template <DType half>
__device__ inline uint32_t pack_pair(float low, float high) {
  uint32_t pair;
  if constexpr (half == DType::bf16) {
    asm(FINERMOE_PTX "cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  } else {
    asm(FINERMOE_PTX "cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  }
  return pair;
}

}  // namespace finermoe::cuda
#else
#include <emulated_tensor_core.h>
#endif

namespace finermoe::cuda {

// An activation before it becomes 16 bits: what is finite stays finite.
template <DType half>
__device__ inline float within_range(float x) {
  if constexpr (half == DType::bf16) return x;
  constexpr float largest = 65504;
  return x * 0 == 0 ? fminf(fmaxf(x, -largest), largest) : x;
}

}  // namespace finermoe::cuda
