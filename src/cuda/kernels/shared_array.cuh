// Shared memory of a block: __shared__ SharedArray<float, 32> sums. The tests' emulation has one of its own, which
// checks each access.
#pragma once

#ifdef __CUDACC__
namespace finermoe::cuda {

template <class T, unsigned N>
class SharedArray {
 public:
  __device__ T& operator[](unsigned index) { return values_[index]; }

 private:
  T values_[N];
};

}  // namespace finermoe::cuda
#else
#include <emulated_shared_array.h>
#endif
