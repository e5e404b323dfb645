#include "emulated_blas.h"

#include <atomic>
#include <cstring>
#include <map>

#include "base/dtype.h"
#include "cuda_runtime.h"
#include "emulated_driver.h"

namespace emulated {
namespace {

using finermoe::cuda::Blas;
using finermoe::cuda::BlasAlgorithm;
using finermoe::cuda::BlasHeuristic;

constexpr int invalid_value = 7, not_supported = 15;  // cuBLAS's
constexpr uint64_t only_algorithm = 0x616c676f;

struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t stride;
};
struct Product {
  int transpose_a = 0;
};
struct Preference {
  std::map<int, uint64_t> values;
};
struct Counts {
  std::atomic<int> objects{0}, products{0};
};
Counts& counts() {
  static Counts own;
  return own;
}

template <class T, class... Arguments>
int create(void** object, Arguments... arguments) {
  counts().objects++;
  *object = new T{arguments...};
  return finermoe::cuda::blas_success;
}
template <class T>
int destroy(void* object) {
  counts().objects--;
  delete static_cast<T*>(object);
  return finermoe::cuda::blas_success;
}

bool is_in_16_bits(const Layout& layout) {
  return layout.type == finermoe::cuda::blas_bf16 || layout.type == finermoe::cuda::blas_f16;
}

// What it can do: a^T b of one type of 16 bits, summed in one go in float32, with rows of 16 bytes.
int find_algorithms(void*, void* product, void* a, void* b, void* c, void* d, void* preference, int n_wanted,
                    BlasHeuristic* found, int* n_found) {
  const auto &of_a = *static_cast<const Layout*>(a), &of_b = *static_cast<const Layout*>(b);
  const auto &of_c = *static_cast<const Layout*>(c), &of_d = *static_cast<const Layout*>(d);
  const auto& values = static_cast<const Preference*>(preference)->values;
  *n_found = 0;
  if (static_cast<const Product*>(product)->transpose_a != 1 || of_a.rows != of_b.rows || of_a.type != of_b.type ||
      of_d.rows != of_a.columns || of_d.columns != of_b.columns || std::memcmp(&of_c, &of_d, sizeof of_c) != 0) {
    return invalid_value;
  }
  if (!is_in_16_bits(of_a) || of_d.type != finermoe::cuda::blas_f32 || of_a.stride % 8 != 0 || of_b.stride % 8 != 0 ||
      values.at(finermoe::cuda::blas_reductions) != 0 || values.at(finermoe::cuda::blas_most_workspace) == 0) {
    return not_supported;
  }
  for (const int of : finermoe::cuda::blas_alignments) {
    if (values.at(of) != 16) return not_supported;
  }
  *found = {};
  found->algorithm.data[0] = only_algorithm;
  *n_found = n_wanted > 0 ? 1 : 0;
  return finermoe::cuda::blas_success;
}

float number(const Layout& layout, const void* data, uint64_t row, uint64_t column) {
  const uint16_t bits = static_cast<const uint16_t*>(data)[column * static_cast<uint64_t>(layout.stride) + row];
  return layout.type == finermoe::cuda::blas_bf16 ? finermoe::bf16_to_float(bits) : finermoe::f16_to_float(bits);
}

struct Operands {
  const void *a, *b;
  float* out;
  Layout of_a, of_b, of_out;
  float beta;
};
void multiply_all(const Operands& all) {
  const auto bytes = [](const Layout& layout) { return layout.columns * static_cast<uint64_t>(layout.stride) * 2; };
  if (!is_allocated(all.a, bytes(all.of_a)) || !is_allocated(all.b, bytes(all.of_b)) ||
      !is_allocated(all.out, all.of_out.columns * static_cast<uint64_t>(all.of_out.stride) * sizeof(float))) {
    report("cuBLASLt: a matrix that is not in an allocation");
    return;
  }
  // A lane has every 32nd column of the output.
  for (uint64_t column = emulated_lane(); column < all.of_out.columns; column += warp_size) {
    for (uint64_t row = 0; row < all.of_out.rows; row++) {
      float sum = 0;
      for (uint64_t k = 0; k < all.of_a.rows; k++) {
        sum += number(all.of_a, all.a, k, row) * number(all.of_b, all.b, k, column);
      }
      float& to = all.out[column * static_cast<uint64_t>(all.of_out.stride) + row];
      to = all.beta == 0 ? sum : sum + all.beta * to;
    }
  }
}

int multiply(void*, void*, const void* alpha, const void* a, void* layout_a, const void* b, void* layout_b,
             const void* beta, const void*, void*, void* d, void* layout_d, const BlasAlgorithm* algorithm,
             void* workspace, size_t workspace_bytes, void* stream) {
  if (settings().product_answers != finermoe::cuda::blas_success) return settings().product_answers;
  if (algorithm->data[0] != only_algorithm || *static_cast<const float*>(alpha) != 1) return invalid_value;
  if (!is_allocated(workspace, workspace_bytes)) return invalid_value;
  const Operands all{a,
                     b,
                     static_cast<float*>(d),
                     *static_cast<const Layout*>(layout_a),
                     *static_cast<const Layout*>(layout_b),
                     *static_cast<const Layout*>(layout_d),
                     *static_cast<const float*>(beta)};
  counts().products++;
  return enqueue_kernel(stream, 1, warp_size, [all] { multiply_all(all); });
}

}  // namespace

std::shared_ptr<const Blas> blas() {
  auto own = std::make_shared<Blas>();
  own->create = [](void** handle) { return create<int>(handle); };
  own->destroy = destroy<int>;
  own->create_product = [](void** product, int compute, int scale) {
    return compute == 68 && scale == 0 ? create<Product>(product) : not_supported;
  };
  own->destroy_product = destroy<Product>;
  own->set_product = [](void* product, int attribute, const void* value, size_t bytes) {
    if (attribute != finermoe::cuda::blas_transpose_a || bytes != sizeof(int)) return invalid_value;
    std::memcpy(&static_cast<Product*>(product)->transpose_a, value, bytes);
    return finermoe::cuda::blas_success;
  };
  own->create_layout = [](void** layout, int type, uint64_t rows, uint64_t columns, int64_t stride) {
    return create<Layout>(layout, type, rows, columns, stride);
  };
  own->destroy_layout = destroy<Layout>;
  own->create_preference = [](void** preference) { return create<Preference>(preference); };
  own->destroy_preference = destroy<Preference>;
  own->set_preference = [](void* preference, int attribute, const void* value, size_t bytes) {
    // The workspace is in 64 bits, the others are in 32.
    if (bytes != (attribute == finermoe::cuda::blas_most_workspace ? 8 : 4)) return invalid_value;
    std::memcpy(&static_cast<Preference*>(preference)->values[attribute], value, bytes);
    return finermoe::cuda::blas_success;
  };
  own->find_algorithms = find_algorithms;
  own->multiply = multiply;
  return own;
}

int n_blas_objects() { return counts().objects; }
int n_blas_products() { return counts().products; }

}  // namespace emulated
