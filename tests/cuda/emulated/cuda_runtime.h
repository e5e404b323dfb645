// What the kernels use of CUDA, for the host's compiler.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>

#include "block.h"

#define __global__
#define __device__
#define __host__
#define __launch_bounds__(...)
// One thread of the host runs a block, and its blocks one after the other.
#define __shared__ static thread_local

using dim3 = emulated::Dim3;
// Three numbers of the thread that is running.
template <emulated::Dim3 emulated::Running::*Of>
struct emulated_numbers {
  template <unsigned emulated::Dim3::*Along>
  struct Number {
    operator unsigned() const { return (emulated::current().*Of).*Along; }  // NOLINT: as a number
  };
  [[no_unique_address]] Number<&emulated::Dim3::x> x;
  [[no_unique_address]] Number<&emulated::Dim3::y> y;
  [[no_unique_address]] Number<&emulated::Dim3::z> z;
};
inline constexpr emulated_numbers<&emulated::Running::index> threadIdx{};
inline constexpr emulated_numbers<&emulated::Running::block> blockIdx{};
inline constexpr emulated_numbers<&emulated::Running::block_size> blockDim{};
inline constexpr emulated_numbers<&emulated::Running::grid_size> gridDim{};

struct alignas(8) uint2 {
  uint32_t x, y;
};
struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline void __syncthreads() { emulated::wait_for_block(); }

template <class T>
T emulated_shuffle(unsigned mask, T value, unsigned from) {
  static_assert(sizeof value <= sizeof(uint64_t));
  emulated::check_mask(mask);
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  bits = emulated::exchange(bits, from);
  std::memcpy(&value, &bits, sizeof value);
  return value;
}
inline unsigned emulated_lane() { return emulated::current().id() % emulated::warp_size; }
template <class T>
T __shfl_sync(unsigned mask, T value, unsigned lane) {
  return emulated_shuffle(mask, value, lane);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, unsigned distance) {
  return emulated_shuffle(mask, value, emulated_lane() ^ distance);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned distance) {
  return emulated_shuffle(mask, value, emulated_lane() < distance ? emulated_lane() : emulated_lane() - distance);
}

inline unsigned __ballot_sync(unsigned mask, bool vote) {
  emulated::check_mask(mask);
  const emulated::Words* const votes = emulated::share({vote});
  unsigned lanes = 0;
  for (unsigned lane = 0; lane < emulated::warp_size; lane++) lanes |= votes[lane][0] << lane;
  return lanes;
}
inline int __popc(unsigned bits) { return std::popcount(bits); }

template <class Place, class T>
T atomicAdd(const Place& place, T value) {
  return place.change([&](T before) { return before + value; });
}
template <class Place, class T>
T atomicMax(const Place& place, T value) {
  return place.change([&](T before) { return std::max(before, value); });
}
template <class Place, class T>
T atomicMin(const Place& place, T value) {
  return place.change([&](T before) { return std::min(before, value); });
}

// Loads of what does not change while the kernel runs: checked.
template <class T>
T __ldg(const T* address) {
  if (reinterpret_cast<uintptr_t>(address) % alignof(T) != 0) {
    emulated::report("global memory: a load that is not aligned");
  } else if (emulated::is_allocated(address, sizeof(T))) {
    return *address;
  } else {
    emulated::report("global memory: a load outside of every allocation");
  }
  return T{};
}

// Rounded twice: the library's own is slow where the processor has no such instruction.
#define fmaf emulated_fmaf
inline float emulated_fmaf(float a, float b, float c) { return a * b + c; }

inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline double __dadd_rn(double a, double b) { return a + b; }
inline double __dmul_rn(double a, double b) { return a * b; }
inline long long __double_as_longlong(double value) { return std::bit_cast<long long>(value); }
inline double __longlong_as_double(long long bits) { return std::bit_cast<double>(bits); }
using std::min;

inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float value) { return std::bit_cast<uint32_t>(value); }
inline int __float2int_rn(float value) { return static_cast<int>(std::lrintf(value)); }
inline uint32_t __byte_perm(uint32_t x, uint32_t y, uint32_t selector) {
  const uint64_t bytes = uint64_t{y} << 32 | x;
  uint32_t out = 0;
  for (unsigned i = 0; i < 4; i++) {
    const unsigned choice = selector >> (4 * i) & 0xf;
    uint32_t byte = bytes >> (8 * (choice & 7)) & 0xff;
    if (choice & 8) byte = byte & 0x80 ? 0xff : 0;  // its sign, eight times
    out |= byte << (8 * i);
  }
  return out;
}

using cudaStream_t = void*;
using cudaError_t = int;
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
};

namespace emulated {
int enqueue_kernel(void* stream, Dim3 grid, Dim3 block, std::function<void()> kernel);
}
template <class... Parameters, class... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameters...),
                               const Arguments&... arguments) {
  return emulated::enqueue_kernel(config->stream, config->gridDim, config->blockDim,
                                  [kernel, arguments...] { kernel(arguments...); });
}
