// How a kernel is launched.
#pragma once

#include <cuda_runtime.h>

namespace finermoe::cuda {

constexpr unsigned warp_size = 32, all_lanes = 0xffffffffu;

__host__ __device__ constexpr unsigned ceil_div(unsigned a, unsigned b) { return (a + b - 1) / b; }

// In the current context. Returns a code of the driver: those of the runtime are the same.
template <class... Parameters, class... Arguments>
int launch(void* stream, dim3 grid, unsigned n_threads, void (*kernel)(Parameters...), const Arguments&... arguments) {
  cudaLaunchConfig_t config{};
  config.gridDim = grid;
  config.blockDim = dim3(n_threads);
  config.stream = static_cast<cudaStream_t>(stream);
  return static_cast<int>(cudaLaunchKernelEx(&config, kernel, static_cast<Parameters>(arguments)...));
}

}  // namespace finermoe::cuda

#ifdef __CUDACC__
namespace finermoe::cuda {

// Combines the values of the lanes of a warp that are so far apart, for one distance after the other: a lane has
// combine(its own, the other's) of the distances before. The function has no state.
template <unsigned... distances, class T, class Combine>
__device__ inline T combine_lanes(T value, const Combine& combine) {
  ((value = combine(value, __shfl_xor_sync(all_lanes, value, distances))), ...);
  return value;
}
// The same of each of several values.
template <unsigned... distances, class T, unsigned M, unsigned N, class Combine>
__device__ inline void combine_each(T (&values)[M][N], const Combine& combine) {
#pragma unroll
  for (unsigned i = 0; i < M; i++) {
#pragma unroll
    for (unsigned j = 0; j < N; j++) values[i][j] = combine_lanes<distances...>(values[i][j], combine);
  }
}

}  // namespace finermoe::cuda
#else
#include <emulated_lanes.h>
#endif

namespace finermoe::cuda {

// Sums and maxima over a warp; every lane has the result.
struct SumOfTwo {
  template <class T>
  __device__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct LargerOfTwo {
  __device__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
template <class T>
__device__ inline T warp_sum(T value) {
  return combine_lanes<16, 8, 4, 2, 1>(value, SumOfTwo());
}
template <unsigned M, unsigned N>
__device__ inline void warp_sums(float (&values)[M][N]) {
  combine_each<16, 8, 4, 2, 1>(values, SumOfTwo());
}
__device__ inline float warp_max(float value) { return combine_lanes<16, 8, 4, 2, 1>(value, LargerOfTwo()); }

}  // namespace finermoe::cuda
