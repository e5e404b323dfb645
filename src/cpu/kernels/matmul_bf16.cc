// BF16 matrices times activations quantized to BF16. One instruction multiplies and adds pairs of columns; this is
// compiled for sets that have it.
#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t step = 2 * lanes;       // columns in a vector of pairs
constexpr size_t most_in_one_pass = 8;   // up to this many vectors read the weights once
constexpr size_t most_of_many = 6;       // vectors in a pass where several passes read the weights from the cache
constexpr size_t tile_most = 6;          // vectors that are multiplied with a packed tile at a time
constexpr size_t depth_block = 1024;     // columns of a packed tile
constexpr size_t tile_rows = 4 * lanes;  // of a packed tile

using Pairs = __m512bh;
// The pairs from column `column` of p on, at any address.
inline Pairs load_pairs(const char* p, size_t column) {
  return reinterpret_cast<Pairs>(_mm512_loadu_si512(p + column * sizeof(uint16_t)));
}
inline Pairs load_first_pairs(const char* p, size_t column, size_t n) {  // n columns, then zeros
  p += column * sizeof(uint16_t);
  return reinterpret_cast<Pairs>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << n) - 1), p));
}

// R rows times T vectors; a missing row repeats the last one. Several rows side by side are short streams, which the
// hardware prefetcher follows badly, so each step prefetches the next `bytes_per_step` bytes of `next`.
template <size_t R, size_t T>
void dot_rows(const Matmul& m, size_t first, size_t row, const char* next, size_t bytes_per_step) {
  const size_t n_rows = smaller(R, m.rows - row);
  const size_t row_bytes = m.columns * sizeof(uint16_t);
  const char* w[R];
  for (size_t r = 0; r < R; r++) {
    w[r] = static_cast<const char*>(m.weight) + (row + smaller(r, n_rows - 1)) * row_bytes;
  }
  const char* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const char*>(m.x[first + t]);
  Vec sums[T * R];  // [T][R]
#pragma GCC unroll 24
  for (size_t i = 0; i < T * R; i++) sums[i] = zero();
  auto add_step = [&](size_t k, auto load_weights) {
    // Rows or vectors, whichever are fewer, stay in registers.
    constexpr bool keep_rows = R < T;
    constexpr size_t n_kept = keep_rows ? R : T, n_passing = keep_rows ? T : R;
    Pairs kept[n_kept];
#pragma GCC unroll 8
    for (size_t i = 0; i < n_kept; i++) kept[i] = keep_rows ? load_weights(w[i], k) : load_pairs(x[i], k);
#pragma GCC unroll 8
    for (size_t j = 0; j < n_passing; j++) {
      const Pairs passing = keep_rows ? load_pairs(x[j], k) : load_weights(w[j], k);
#pragma GCC unroll 8
      for (size_t i = 0; i < n_kept; i++) {
        Vec& sum = sums[keep_rows ? j * R + i : i * R + j];
        sum = _mm512_dpbf16_ps(sum, passing, kept[i]);
      }
    }
  };
  size_t k = 0;
  for (; k + step <= m.columns; k += step, next += bytes_per_step) {
    for (size_t i = 0; i < bytes_per_step; i += 64) _mm_prefetch(next + i, _MM_HINT_T1);
    add_step(k, load_pairs);
  }
  if (k < m.columns) {
    const size_t rest = m.columns - k;
    add_step(k, [rest](const char* p, size_t column) { return load_first_pairs(p, column, rest); });
  }
  constexpr auto last = T * R - 1;
  float products[round_up(T * R, 4)];
#pragma GCC unroll 8
  for (size_t i = 0; i <= last; i += 4) {
    _mm_storeu_ps(products + i, sums_of_four(sums[i], sums[smaller(i + 1, last)], sums[smaller(i + 2, last)],
                                             sums[smaller(i + 3, last)]));
  }
  for (size_t t = 0; t < T; t++) {
    float* out = m.out[first + t] + row;
    for (size_t r = 0; r < n_rows; r++) out[r] = m.accumulate ? out[r] + products[t * R + r] : products[t * R + r];
  }
}

// One vector. Row after row reads the weights in memory order; the order of summation is that of dot_rows.
void dot_rows_of_one(const Matmul& m) {
  const auto* x = static_cast<const char*>(m.x[0]);
  const auto* w = static_cast<const char*>(m.weight);
  for (size_t row = 0; row < m.rows; row++, w += m.columns * sizeof(uint16_t)) {
    Vec sums = zero();
    size_t k = 0;
    for (; k + step <= m.columns; k += step) {
      if (m.prefetch != 0) _mm_prefetch(w + k * sizeof(uint16_t) + m.prefetch, _MM_HINT_T0);
      sums = _mm512_dpbf16_ps(sums, load_pairs(x, k), load_pairs(w, k));
    }
    if (k < m.columns) sums = _mm512_dpbf16_ps(sums, load_pairs(x, k), load_first_pairs(w, k, m.columns - k));
    const float product = _mm_cvtss_f32(sums_of_four(sums, sums, sums, sums));
    m.out[0][row] = m.accumulate ? m.out[0][row] + product : product;
  }
}

// The vectors in n_chunks of T or T - 1; each chunk prefetches its part of the next rows.
template <size_t T>
void multiply_chunks(const Matmul& m, size_t n_chunks) {
  constexpr size_t R = T <= 3 ? 8 : T == 4 ? 6 : T <= 6 ? 4 : 3;  // up to 24 sums fit the registers
  const size_t row_bytes = m.columns * sizeof(uint16_t), n_steps = m.columns / step + 1;
  const size_t bytes_per_step = round_up((R * row_bytes + n_chunks * n_steps - 1) / (n_chunks * n_steps), 64);
  const size_t n_larger = m.n - n_chunks * (T - 1);
  for (size_t row = 0; row < m.rows; row += R) {
    const char* next = static_cast<const char*>(m.weight) + (row + R) * row_bytes;
    for (size_t chunk = 0, first = 0; chunk < n_chunks; chunk++, next += n_steps * bytes_per_step) {
      if (chunk < n_larger) {
        dot_rows<R, T>(m, first, row, next, bytes_per_step);
        first += T;
      } else if constexpr (T > 1) {
        dot_rows<R, T - 1>(m, first, row, next, bytes_per_step);
        first += T - 1;
      }
    }
  }
}

void matmul_few(const Matmul& m) {
  constexpr decltype(&multiply_chunks<1>) of[most_in_one_pass] = {
      multiply_chunks<1>, multiply_chunks<2>, multiply_chunks<3>, multiply_chunks<4>,
      multiply_chunks<5>, multiply_chunks<6>, multiply_chunks<7>, multiply_chunks<8>};
  const size_t n_chunks = m.n <= most_in_one_pass ? 1 : (m.n + most_of_many - 1) / most_of_many;
  of[(m.n + n_chunks - 1) / n_chunks - 1](m, n_chunks);
}

// Columns [begin, begin + depth) of n_rows rows as a tile of pairs [depth / 2][R * lanes], with zeros for missing rows.
template <size_t R>
void pack_pairs(const char* weight, size_t columns, size_t n_rows, size_t begin, size_t depth, float* out) {
  for (size_t r = 0; r < R; r++) {
    for (size_t k = 0; k < depth; k += step) {
      const size_t count = smaller(step, depth - k);
      Vec v[lanes];
#pragma GCC unroll 16
      for (size_t i = 0; i < lanes; i++) {
        const size_t row = r * lanes + i;
        const size_t at = row * columns + begin + k;
        v[i] = row >= n_rows ? zero()
                             : reinterpret_cast<Vec>(count == step ? load_pairs(weight, at)
                                                                   : load_first_pairs(weight, at, count));
      }
      transpose(v);
      for (size_t i = 0; i < (count + 1) / 2; i++) store(out + ((k / 2 + i) * R + r) * lanes, v[i]);
    }
  }
}

// A part of the next tile's rows, to be prefetched into the second-level cache.
struct Prefetch {
  const char* at;
  size_t n_rows, row_bytes;
};

// T vectors times a packed tile of R * lanes rows.
template <size_t R, size_t T>
void tile_product(const Matmul& m, const float* tile, const Prefetch& next, size_t first, size_t row, size_t n_rows,
                  size_t begin, size_t depth) {
  const char* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const char*>(m.x[first + t]) + begin * sizeof(uint16_t);
  Vec sums[T][R];
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) sums[t][r] = zero();
  }
  for (size_t pair = 0; pair < (depth + 1) / 2; pair++) {
    if (pair % lanes == 0) {  // each cache line of a row once
      for (size_t i = 0; i < next.n_rows; i++) {
        _mm_prefetch(next.at + i * next.row_bytes + pair * sizeof(float), _MM_HINT_T1);
      }
    }
    Pairs w[R];
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) w[r] = reinterpret_cast<Pairs>(load(tile + (pair * R + r) * lanes));
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      float both;
      __builtin_memcpy(&both, x[t] + pair * sizeof both, sizeof both);
      const Pairs v = reinterpret_cast<Pairs>(broadcast(both));
#pragma GCC unroll 4
      for (size_t r = 0; r < R; r++) sums[t][r] = _mm512_dpbf16_ps(sums[t][r], v, w[r]);
    }
  }
  const bool accumulate = m.accumulate || begin != 0;
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) {
      if (r * lanes >= n_rows) break;
      put_outputs(m.out[first + t] + row + r * lanes, sums[t][r], n_rows - r * lanes, accumulate);
    }
  }
}

// Scratch for packed tiles.
struct TileScratch {
  float* tile;  // [depth_block / 2, tile_rows] pairs
  explicit TileScratch(Places& places) { places.put(tile, depth_block / 2 * tile_rows); }
};

template <size_t R>
void tile_products(const Matmul& m, size_t row, size_t begin, size_t depth) {
  constexpr decltype(&tile_product<R, 1>) with[] = {tile_product<R, 1>, tile_product<R, 2>, tile_product<R, 3>,
                                                    tile_product<R, 4>, tile_product<R, 5>, tile_product<R, 6>};
  const size_t n_rows = smaller(R * lanes, m.rows - row), row_bytes = m.columns * sizeof(uint16_t);
  const char* weight = static_cast<const char*>(m.weight);
  Places places(m.scratch);
  const TileScratch scratch(places);
  pack_pairs<R>(weight + row * row_bytes, m.columns, n_rows, begin, depth, scratch.tile);
  const size_t n_chunks = (m.n + tile_most - 1) / tile_most, chunk = (m.n + n_chunks - 1) / n_chunks;
  // The next tile: the next rows, or after the last rows the next columns of the first ones.
  const bool same_columns = row + tile_rows < m.rows;
  const size_t next_begin = same_columns ? begin : begin + depth;
  const size_t next_rows = next_begin < m.columns ? (tile_rows + n_chunks - 1) / n_chunks : 0;
  Prefetch next{weight + (same_columns ? row + tile_rows : 0) * row_bytes + next_begin * sizeof(uint16_t), next_rows,
                row_bytes};
  for (size_t first = 0; first < m.n; first += chunk, next.at += next_rows * row_bytes) {
    with[smaller(chunk, m.n - first) - 1](m, scratch.tile, next, first, row, n_rows, begin, depth);
  }
}

void matmul_many(const Matmul& m) {
  for (size_t begin = 0; begin < m.columns; begin += depth_block) {
    const size_t depth = smaller(depth_block, m.columns - begin);
    for (size_t row = 0; row < m.rows; row += tile_rows) {
      switch ((smaller(tile_rows, m.rows - row) + lanes - 1) / lanes) {
        case 1:
          tile_products<1>(m, row, begin, depth);
          break;
        case 2:
          tile_products<2>(m, row, begin, depth);
          break;
        case 3:
          tile_products<3>(m, row, begin, depth);
          break;
        default:
          tile_products<4>(m, row, begin, depth);
      }
    }
  }
}

}  // namespace

void matmul_bf16(const Matmul& m) {
  if (m.n == 1) {
    dot_rows_of_one(m);
  } else if (m.n <= bf16_few_vectors || m.as_alone) {
    matmul_few(m);
  } else {
    matmul_many(m);
  }
}

size_t matmul_bf16_scratch(size_t n) { return n > bf16_few_vectors ? bytes_of_arrays<TileScratch>() : 0; }

}  // namespace finermoe::FINERMOE_KERNELS
