// Numbers whose every operation is rounded, as on the host: nvcc fuses no product and sum of them.
#pragma once

#include <cuda_runtime.h>

namespace finermoe::cuda {

template <class T>
struct Rounded {
  T value;
  __device__ Rounded(T number) : value(number) {}  // NOLINT: as a number
};

__device__ inline Rounded<float> operator+(Rounded<float> a, Rounded<float> b) { return __fadd_rn(a.value, b.value); }
__device__ inline Rounded<float> operator-(Rounded<float> a, Rounded<float> b) { return __fadd_rn(a.value, -b.value); }
__device__ inline Rounded<float> operator*(Rounded<float> a, Rounded<float> b) { return __fmul_rn(a.value, b.value); }
__device__ inline Rounded<double> operator+(Rounded<double> a, Rounded<double> b) {
  return __dadd_rn(a.value, b.value);
}
__device__ inline Rounded<double> operator-(Rounded<double> a, Rounded<double> b) {
  return __dadd_rn(a.value, -b.value);
}
__device__ inline Rounded<double> operator*(Rounded<double> a, Rounded<double> b) {
  return __dmul_rn(a.value, b.value);
}

}  // namespace finermoe::cuda
