// A weight matrix times few vectors (decode: the weights are streamed once) or many (prefill: packed tiles).
#include "cpu/kernels/tile.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t one_row_columns = 4096;  // 16 KiB of x stay in the first-level cache while the weights stream by

// Four rows times T vectors. Each output is one chain of vector sums over the columns, so its bits depend neither on T
// nor on the row's place among the four.
template <DType D, size_t T>
void dot_four_rows(const Matmul& m, size_t first_vector, size_t first_row, bool prefetch) {
  const char* rows[4];
  const size_t n_rows = smaller(4, m.rows - first_row);
  for (size_t r = 0; r < 4; r++) {  // a missing row repeats the last one
    rows[r] = static_cast<const char*>(m.weight) + bytes_of<D>((first_row + smaller(r, n_rows - 1)) * m.columns);
  }
  const float* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const float*>(m.x[first_vector + t]);
  Vec sums[T][4];
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = zero();
  const char* next = rows[0] + bytes_of<D>(4 * m.columns);
  size_t k = 0;
  for (; k + lanes <= m.columns; k += lanes) {
    if (prefetch) {
      for (size_t i = 0; i < bytes_of<D>(4 * lanes); i += 64) _mm_prefetch(next + bytes_of<D>(4 * k) + i, _MM_HINT_T1);
    }
    Vec w[4];
#pragma GCC unroll 4
    for (size_t r = 0; r < 4; r++) w[r] = load_as<D>(rows[r] + bytes_of<D>(k));
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      const Vec v = load(x[t] + k);
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; r++) sums[t][r] = fma(v, w[r], sums[t][r]);
    }
  }
  if (const size_t rest = m.columns - k; rest != 0) {
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      const Vec v = load_first_as<DType::f32>(x[t] + k, rest);
#pragma GCC unroll 4
      for (size_t r = 0; r < 4; r++) {
        sums[t][r] = fma(v, load_first_as<D>(rows[r] + bytes_of<D>(k), rest), sums[t][r]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
    const __m128 four = sums_of_four(sums[t][0], sums[t][1], sums[t][2], sums[t][3]);
    float* out = m.out[first_vector + t] + first_row;
    if (n_rows == 4) {
      _mm_storeu_ps(out, m.accumulate ? _mm_add_ps(_mm_loadu_ps(out), four) : four);
      continue;
    }
    float rest[4];
    _mm_storeu_ps(rest, four);
    for (size_t r = 0; r < n_rows; r++) out[r] = m.accumulate ? out[r] + rest[r] : rest[r];
  }
}

// One row times T vectors that stay in the first-level cache. Four chains of sums for each hide the latency of the
// additions; a sum's order does not depend on T.
template <DType D, size_t T>
void dot_one_row(const Matmul& m, size_t first_vector, size_t row) {
  const char* w = static_cast<const char*>(m.weight) + bytes_of<D>(row * m.columns);
  const float* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const float*>(m.x[first_vector + t]);
  Vec sums[T][4];
#pragma GCC unroll 2
  for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = zero();
  size_t k = 0;
  for (; k + 4 * lanes <= m.columns; k += 4 * lanes) {
    for (size_t i = 0; m.prefetch != 0 && first_vector == 0 && i < bytes_of<D>(4 * lanes); i += 64) {
      _mm_prefetch(w + bytes_of<D>(k) + m.prefetch + i, _MM_HINT_T0);
    }
#pragma GCC unroll 4
    for (size_t i = 0; i < 4; i++) {
      const Vec v = load_as<D>(w + bytes_of<D>(k + i * lanes));
#pragma GCC unroll 2
      for (size_t t = 0; t < T; t++) sums[t][i] = fma(load(x[t] + k + i * lanes), v, sums[t][i]);
    }
  }
  for (; k + lanes <= m.columns; k += lanes) {
    for (size_t t = 0; t < T; t++) {
      sums[t][0] = fma(load(x[t] + k), load_as<D>(w + bytes_of<D>(k)), sums[t][0]);
    }
  }
  const size_t rest = m.columns - k;
  for (size_t t = 0; t < T; t++) {
    if (rest != 0) {
      const Vec v = load_first_as<DType::f32>(x[t] + k, rest);
      sums[t][1] = fma(v, load_first_as<D>(w + bytes_of<D>(k), rest), sums[t][1]);
    }
    const float product = sum(add(add(sums[t][0], sums[t][1]), add(sums[t][2], sums[t][3])));
    float* out = m.out[first_vector + t] + row;
    *out = m.accumulate ? *out + product : product;
  }
}

// Row after row reads the weights in memory order, which suits the hardware prefetcher best.
template <DType D>
void matmul_one(const Matmul& m) {
  for (size_t row = 0; row < m.rows; row++) {
    size_t first = 0;
    for (; first + 2 <= m.n; first += 2) dot_one_row<D, 2>(m, first, row);
    if (first < m.n) dot_one_row<D, 1>(m, first, row);
  }
}

template <DType D>
void matmul_few(const Matmul& m) {
  const size_t n_chunks = (m.n + dot_vectors - 1) / dot_vectors, chunk = (m.n + n_chunks - 1) / n_chunks;
  for (size_t row = 0; row < m.rows; row += 4) {
    for (size_t first = 0; first < m.n; first += chunk) {
      // Four rows side by side are four short streams, which the hardware prefetcher follows badly: prefetch the next
      // rows in memory order.
      const bool prefetch = first == 0 && row + 8 <= m.rows;
      switch (smaller(chunk, m.n - first)) {
        case 1:
          dot_four_rows<D, 1>(m, first, row, prefetch);
          break;
        case 2:
          dot_four_rows<D, 2>(m, first, row, prefetch);
          break;
        case 3:
          dot_four_rows<D, 3>(m, first, row, prefetch);
          break;
        case 4:
          dot_four_rows<D, 4>(m, first, row, prefetch);
          break;
        case 5:
          dot_four_rows<D, 5>(m, first, row, prefetch);
          break;
        default:
          dot_four_rows<D, 6>(m, first, row, prefetch);
      }
    }
  }
}

template <DType D>
void matmul_many(const Matmul& m) {
  const char* weight = static_cast<const char*>(m.weight);
  Places places(m.scratch);
  const TileScratch scratch(places, m.n);
  for (size_t begin = 0; begin < m.columns; begin += matmul_depth_block) {
    const size_t depth = smaller(matmul_depth_block, m.columns - begin);
    const bool accumulate = m.accumulate || begin != 0;
    pack_vectors(reinterpret_cast<const float* const*>(m.x), m.n, begin, depth, scratch.vectors);
    for (size_t row = 0; row < m.rows; row += tile_width) {
      const size_t n_rows = smaller(tile_width, m.rows - row);
      pack_tile<D>(weight + bytes_of<D>(row * m.columns), n_rows, m.columns, begin, depth, scratch.tile);
      tile_products(scratch.vectors, m.n, scratch.tile, depth, m.out, row, n_rows, accumulate);
    }
  }
}

template <DType D>
void matmul_as(const Matmul& m) {
  if ((m.n == 1 || m.as_alone) && m.columns <= one_row_columns && !m.rows_side_by_side && !m.batch_invariant) {
    matmul_one<D>(m);
  } else if (m.n <= dot_max_vectors || m.as_alone || m.batch_invariant) {
    matmul_few<D>(m);
  } else {
    matmul_many<D>(m);
  }
}

}  // namespace

void matmul(const Matmul& m) {
  switch (m.dtype) {
    case DType::f32:
      return matmul_as<DType::f32>(m);
    case DType::f16:
      return matmul_as<DType::f16>(m);
    case DType::bf16:
#if defined(__AVX512BF16__)
      if (m.form == Form::bf16) return matmul_bf16(m);
#endif
      return matmul_as<DType::bf16>(m);
    case DType::q8:
    case DType::q4:
      return matmul_blocks(m);
  }
}

size_t matmul_scratch(size_t n, size_t columns) {
  size_t bytes = larger(n > dot_max_vectors ? bytes_of_arrays<TileScratch>(n) : 0, matmul_blocks_scratch(n, columns));
#if defined(__AVX512BF16__)
  bytes = larger(bytes, matmul_bf16_scratch(n));
#endif
  return bytes;
}

}  // namespace finermoe::FINERMOE_KERNELS
