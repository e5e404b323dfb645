// A task's product in calls of OpenBLAS: it takes matrices whose rows are evenly spaced floats, so others are copied.
#include <algorithm>
#include <climits>
#include <cstring>

#include "base/places.h"
#include "cpu/blas.h"

namespace finermoe {
namespace {

struct Scratch {
  float *x, *weights, *out;
  Scratch(Places& places, size_t n) {
    places.put(x, n * matmul_depth_block);
    places.put(weights, blas_rows * matmul_depth_block);
    places.put(out, n * blas_rows);
  }
};

// How far apart rows of `width` floats are, or 0 where the distance varies or is none that the library takes.
size_t distance(const float* const* rows, size_t n, size_t width) {
  const ptrdiff_t apart = n < 2 ? static_cast<ptrdiff_t>(width) : rows[1] - rows[0];
  if (apart < static_cast<ptrdiff_t>(width) || apart > INT_MAX) return 0;
  for (size_t i = 1; i < n; i++) {
    if (rows[i] - rows[i - 1] != apart) return 0;
  }
  return static_cast<size_t>(apart);
}

bool is_in_place(const Matmul& m) {
  return m.dtype == DType::f32 && reinterpret_cast<uintptr_t>(m.weight) % alignof(float) == 0 && m.columns <= INT_MAX;
}

// Columns [begin, begin + depth) of rows [first, first + n_rows) of the weights, as floats [n_rows, depth]. `begin` is
// a multiple of block_columns.
void widen_weights(const Kernels& kernels, const Matmul& m, size_t first, size_t n_rows, size_t begin, size_t depth,
                   float* out) {
  const auto* bytes = static_cast<const std::byte*>(m.weight);
  for (size_t row = first; row < first + n_rows; row++, out += depth) {
    if (is_blocked(m.dtype)) {
      const size_t block = row / panel_rows * blocks_of(m.columns) + begin / block_columns;
      decode_row(m.dtype, bytes + block * block_bytes(m.dtype), row % panel_rows, {out, depth});
    } else {
      kernels.widen(bytes + (row * m.columns + begin) * size_of(m.dtype), m.dtype, depth, out);
    }
  }
}

}  // namespace

size_t Blas::matmul_scratch(size_t n) { return bytes_of_arrays<Scratch>(n); }

// Copies change no bits: each call has the same shape and the same numbers with them as without.
void Blas::matmul(const Kernels& kernels, const Matmul& m) const {
  Places places(m.scratch);
  const Scratch scratch(places, m.n);
  const auto* const* x = reinterpret_cast<const float* const*>(m.x);
  const size_t x_apart = distance(x, m.n, m.columns), out_apart = distance(m.out, m.n, m.rows);
  for (size_t row = 0; row < m.rows; row += blas_rows) {
    const size_t n_rows = std::min(blas_rows, m.rows - row);
    float* const out = out_apart != 0 ? m.out[0] + row : scratch.out;
    for (size_t i = 0; m.accumulate && out_apart == 0 && i < m.n; i++) {
      std::memcpy(out + i * n_rows, m.out[i] + row, n_rows * sizeof(float));
    }
    for (size_t begin = 0; begin < m.columns; begin += matmul_depth_block) {
      const size_t depth = std::min<size_t>(matmul_depth_block, m.columns - begin);
      for (size_t i = 0; x_apart == 0 && i < m.n; i++) {
        std::memcpy(scratch.x + i * depth, x[i] + begin, depth * sizeof(float));
      }
      const bool in_place = is_in_place(m);
      if (!in_place) widen_weights(kernels, m, row, n_rows, begin, depth, scratch.weights);
      const float* const weights =
          in_place ? static_cast<const float*>(m.weight) + row * m.columns + begin : scratch.weights;
      multiply(m.n, n_rows, depth, x_apart != 0 ? x[0] + begin : scratch.x, x_apart != 0 ? x_apart : depth, weights,
               in_place ? m.columns : depth, m.accumulate || begin > 0, out, out_apart != 0 ? out_apart : n_rows);
    }
    for (size_t i = 0; out_apart == 0 && i < m.n; i++) {
      std::memcpy(m.out[i] + row, out + i * n_rows, n_rows * sizeof(float));
    }
  }
}

}  // namespace finermoe
