// cuBLASLt, emulated: descriptors are checked, a product is a kernel of one warp.
#pragma once

#include "cuda/blas.h"

namespace emulated {

std::shared_ptr<const finermoe::cuda::Blas> blas();

}  // namespace emulated
