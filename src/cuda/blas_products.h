// Large products by cuBLASLt.
#pragma once

#include <map>
#include <tuple>

#include "cuda/blas.h"
#include "cuda/kernels.h"

namespace finermoe::cuda {

// Sizes from which a product is left to cuBLASLt: of vectors, and of elements of the matrix. Not measured.
constexpr uint32_t least_blas_vectors = 65;
constexpr uint64_t least_blas_elements = uint64_t{1} << 20;
constexpr uint64_t blas_workspace_bytes = uint64_t{4} << 20;

// Of a product whose x is in 16 bits already. Rows have to begin at multiples of 16 bytes.
bool is_for_blas(const Linear& task);

// cuBLASLt in use in a context: its functions and their handle.
class BlasLibrary {
 public:
  // In the current context; null where there is no cuBLASLt, or it does not start.
  static std::unique_ptr<const BlasLibrary> start(std::shared_ptr<const Blas> blas);
  BlasLibrary(const BlasLibrary&) = delete;
  ~BlasLibrary();
  const std::shared_ptr<const Blas>& functions() const { return blas_; }
  Blas::Handle handle() const { return handle_; }

 private:
  BlasLibrary(std::shared_ptr<const Blas> blas, Blas::Handle handle) : blas_(std::move(blas)), handle_(handle) {}
  const std::shared_ptr<const Blas> blas_;
  const Blas::Handle handle_;
};

// The products of a step; how those of a shape are computed is asked once.
class BlasProducts {
 public:
  // Enqueues out (+)= operands W^T with a workspace of blas_workspace_bytes on the device. False, with nothing
  // enqueued, where cuBLASLt cannot do it.
  bool multiply(const BlasLibrary& library, void* stream, const Linear& task, void* workspace);

 private:
  class Plan;
  using Key = std::tuple<DType, uint32_t, uint32_t, uint32_t>;  // of the weights, their rows and columns, vectors
  std::map<Key, std::shared_ptr<const Plan>> plans_;
};

}  // namespace finermoe::cuda
