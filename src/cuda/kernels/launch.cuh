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

// Sums and maxima over a warp; every lane has the result.
__device__ inline float warp_sum(float value) {
  for (unsigned distance = warp_size / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(all_lanes, value, distance);
  }
  return value;
}
__device__ inline float warp_max(float value) {
  for (unsigned distance = warp_size / 2; distance > 0; distance /= 2) {
    value = fmaxf(value, __shfl_xor_sync(all_lanes, value, distance));
  }
  return value;
}

}  // namespace finermoe::cuda
