// OpenBLAS, which is opened at run time when the host asks for it, and how a task's product is left to it
// (docs/blas.md).
#pragma once

#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>

#include "base/shared_library.h"
#include "cpu/kernels.h"

namespace finermoe {

constexpr size_t blas_least_vectors = 16;  // of a product that is left to it
// Rows of weights of one call. A task has whole calls, so that these, and with them the bits of a result, do not depend
// on how a product is divided into tasks.
constexpr size_t blas_rows = 128;

class Blas {
 public:
  // The library at a path; an empty one means OpenBLAS as the system finds it. It belongs to this object alone.
  // FILE_NOT_FOUND, FILE_UNREADABLE for something other than a library, or UNSUPPORTED for one that is not OpenBLAS,
  // that cannot be used as it was built, or that computes wrong.
  static Result<std::shared_ptr<const Blas>> open(const std::string& path);

  // What the library says of its version and of how it was built.
  const std::string& description() const { return description_; }
  // Calls that may run at the same time; others wait.
  size_t calls_at_once() const { return calls_at_once_; }

  // Computes a task of float vectors, as a kernel does.
  void matmul(const Kernels& kernels, const Matmul& task) const;
  // Bytes of scratch that a task of up to n vectors uses.
  static size_t matmul_scratch(size_t n);

 private:
  // The functions of cblas.h that are used; `int` are its enumerations and sizes.
  struct Functions {
    void (*sgemm)(int order, int transpose_a, int transpose_b, int m, int n, int k, float alpha, const float* a,
                  int lda, const float* b, int ldb, float beta, float* c, int ldc) = nullptr;
    char* (*config)() = nullptr;
    int (*parallel)() = nullptr;
    void (*set_num_threads)(int n) = nullptr;
    int (*num_threads)() = nullptr;
  };

  explicit Blas(SharedLibrary library);
  // Finds the functions and looks at how the library was built.
  Status start(const std::string& name);
  bool computes_right() const;
  bool computes_right_concurrently() const;
  // c [n, rows] (+)= x [n, depth] w [rows, depth]^T; `ld…` are the distances of rows.
  void multiply(size_t n, size_t rows, size_t depth, const float* x, size_t ldx, const float* w, size_t ldw,
                bool accumulate, float* c, size_t ldc) const;

  const SharedLibrary library_;
  const bool has_avx_;  // of the processor
  Functions functions_;
  std::string description_;
  size_t calls_at_once_ = 1;
  mutable std::mutex mutex_;
  mutable std::condition_variable call_ended_;
  mutable size_t n_calls_ = 0;  // that run now; under mutex_
};

}  // namespace finermoe
