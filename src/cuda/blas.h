// The few functions of cuBLASLt that we call, as a table: found at run time where the library is, so that the module
// needs neither it nor its headers. Types and constants are those of cublasLt.h, 13.0.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace finermoe::cuda {

struct BlasAlgorithm {
  uint64_t data[8];
};
struct BlasHeuristic {
  BlasAlgorithm algorithm;
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};

struct Blas {
  using Status = int;     // blas_success, or why not
  using Handle = void*;   // one for all streams
  using Product = void*;  // what is done with the matrices
  using Layout = void*;   // of a matrix: columns one behind the other
  using Preference = void*;

  Status (*create)(Handle* handle) = nullptr;  // of the current context
  Status (*destroy)(Handle handle) = nullptr;
  Status (*create_product)(Product* product, int compute_type, int scale_type) = nullptr;
  Status (*destroy_product)(Product product) = nullptr;
  Status (*set_product)(Product product, int attribute, const void* value, size_t bytes) = nullptr;
  Status (*create_layout)(Layout* layout, int type, uint64_t rows, uint64_t columns, int64_t stride) = nullptr;
  Status (*destroy_layout)(Layout layout) = nullptr;
  Status (*create_preference)(Preference* preference) = nullptr;
  Status (*destroy_preference)(Preference preference) = nullptr;
  Status (*set_preference)(Preference preference, int attribute, const void* value, size_t bytes) = nullptr;
  Status (*find_algorithms)(Handle handle, Product product, Layout a, Layout b, Layout c, Layout d,
                            Preference preference, int n_wanted, BlasHeuristic* found, int* n_found) = nullptr;
  // d = alpha * a b + beta * c
  Status (*multiply)(Handle handle, Product product, const void* alpha, const void* a, Layout layout_a, const void* b,
                     Layout layout_b, const void* beta, const void* c, Layout layout_c, void* d, Layout layout_d,
                     const BlasAlgorithm* algorithm, void* workspace, size_t workspace_bytes, void* stream) = nullptr;
};

constexpr Blas::Status blas_success = 0;
constexpr int blas_f32 = 0, blas_f16 = 2, blas_bf16 = 14;  // types
constexpr int blas_compute_f32 = 68;                       // sums in float32
// An attribute of a product, and its value.
constexpr int blas_transpose_a = 3, blas_is_transposed = 1;
// Attributes of a preference: bytes of the workspace, in which ways parts of a sum may be added, and what the addresses
// of a, b, c and d are multiples of.
constexpr int blas_most_workspace = 1, blas_reductions = 3, blas_alignments[] = {5, 6, 7, 8};
constexpr uint32_t blas_no_reductions = 0;

// What the first of these libraries that can be loaded offers; null if none can.
std::shared_ptr<const Blas> load_blas(const std::vector<std::string>& libraries);
// libcublasLt.so.13 where the system finds it, or in this module's folder.
std::shared_ptr<const Blas> load_blas();

}  // namespace finermoe::cuda
