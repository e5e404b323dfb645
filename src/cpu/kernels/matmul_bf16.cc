// Products of BF16 matrices with vectors narrowed to BF16: pairs of columns are multiplied and added in one
// instruction. Compiled for sets that have it.
#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr size_t step = 2 * lanes;  // columns in a vector of pairs
constexpr size_t dot_rows = 4;      // rows and vectors whose sums fill the registers: 24
constexpr size_t dot_most = 6;
constexpr size_t few_dots = 48;  // more vectors are multiplied by packed tiles
constexpr size_t tile_most = 6;  // vectors of a packed tile, with up to 4 vectors of rows

using Pairs = __m512bh;
inline Pairs load_pairs(const uint16_t* p) { return reinterpret_cast<Pairs>(_mm512_loadu_si512(p)); }
inline Pairs load_first_pairs(const uint16_t* p, size_t n) {  // n columns, then zeros
  return reinterpret_cast<Pairs>(_mm512_maskz_loadu_epi16(static_cast<__mmask32>((1ull << n) - 1), p));
}

// Four rows with T vectors; a missing row repeats the last one. Four rows side by side are four short streams, which a
// processor foresees badly: the next rows are fetched in the order in which they lie in memory, a part of their lines
// by each of the `n_chunks` calls that these rows meet.
template <size_t T>
void dot_four_rows(const Matmul& m, size_t first, size_t row, size_t n_chunks) {
  const size_t n_rows = smaller(dot_rows, m.rows - row);
  const uint16_t* w[dot_rows];
  for (size_t r = 0; r < dot_rows; r++) {
    w[r] = static_cast<const uint16_t*>(m.weight) + (row + smaller(r, n_rows - 1)) * m.columns;
  }
  const uint16_t* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const uint16_t*>(m.x[first + t]);
  Vec sums[T][dot_rows];
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = sums[t][2] = sums[t][3] = zero();
  auto add_step = [&](size_t k, auto load_weights) {
    Pairs pairs[dot_rows];
#pragma GCC unroll 4
    for (size_t r = 0; r < dot_rows; r++) pairs[r] = load_weights(w[r] + k);
#pragma GCC unroll 8
    for (size_t t = 0; t < T; t++) {
      const Pairs v = load_pairs(x[t] + k);
#pragma GCC unroll 4
      for (size_t r = 0; r < dot_rows; r++) sums[t][r] = _mm512_dpbf16_ps(sums[t][r], v, pairs[r]);
    }
  };
  const char* next = reinterpret_cast<const char*>(w[0] + dot_rows * m.columns);
  const size_t line = 64, group = dot_rows * line;  // bytes of the four rows in one step
  size_t k = 0;
  for (; k + step <= m.columns; k += step) {
    for (size_t at = first / T * line; at < group; at += n_chunks * line) {
      _mm_prefetch(next + k / step * group + at, _MM_HINT_T1);
    }
    add_step(k, load_pairs);
  }
  if (k < m.columns) {
    const size_t rest = m.columns - k;
    add_step(k, [rest](const uint16_t* p) { return load_first_pairs(p, rest); });
  }
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
    float four[dot_rows];
    _mm_storeu_ps(four, sums_of_four(sums[t][0], sums[t][1], sums[t][2], sums[t][3]));
    float* out = m.out[first + t] + row;
    for (size_t r = 0; r < n_rows; r++) out[r] = m.accumulate ? out[r] + four[r] : four[r];
  }
}

// One vector: row after row, so that the weights are read in the order in which they lie in memory. The sums are those
// of dot_four_rows, in the same order.
void dot_rows_of_one(const Matmul& m) {
  const auto* x = static_cast<const uint16_t*>(m.x[0]);
  const auto* w = static_cast<const uint16_t*>(m.weight);
  for (size_t row = 0; row < m.rows; row++, w += m.columns) {
    Vec sums = zero();
    size_t k = 0;
    for (; k + step <= m.columns; k += step) sums = _mm512_dpbf16_ps(sums, load_pairs(x + k), load_pairs(w + k));
    if (k < m.columns) sums = _mm512_dpbf16_ps(sums, load_pairs(x + k), load_first_pairs(w + k, m.columns - k));
    const float product = _mm_cvtss_f32(sums_of_four(sums, sums, sums, sums));
    m.out[0][row] = m.accumulate ? m.out[0][row] + product : product;
  }
}

void matmul_few(const Matmul& m) {
  constexpr decltype(&dot_four_rows<1>) with[] = {dot_four_rows<1>, dot_four_rows<2>, dot_four_rows<3>,
                                                  dot_four_rows<4>, dot_four_rows<5>, dot_four_rows<6>};
  const size_t n_chunks = (m.n + dot_most - 1) / dot_most, chunk = (m.n + n_chunks - 1) / n_chunks;
  for (size_t row = 0; row < m.rows; row += dot_rows) {
    for (size_t first = 0; first < m.n; first += chunk) with[smaller(chunk, m.n - first) - 1](m, first, row, n_chunks);
  }
}

// Columns [begin, begin + depth) of n_rows rows as a tile of pairs [depth / 2][R * lanes]; missing rows are zeros.
template <size_t R>
void pack_pairs(const uint16_t* weight, size_t columns, size_t n_rows, size_t begin, size_t depth, float* out) {
  for (size_t r = 0; r < R; r++) {
    for (size_t k = 0; k < depth; k += step) {
      const size_t count = smaller(step, depth - k);
      Vec v[lanes];
#pragma GCC unroll 16
      for (size_t i = 0; i < lanes; i++) {
        const size_t row = r * lanes + i;
        const uint16_t* p = weight + row * columns + begin + k;
        v[i] =
            row >= n_rows ? zero() : reinterpret_cast<Vec>(count == step ? load_pairs(p) : load_first_pairs(p, count));
      }
      transpose(v);
      for (size_t i = 0; i < (count + 1) / 2; i++) store(out + ((k / 2 + i) * R + r) * lanes, v[i]);
    }
  }
}

// T vectors with a packed tile of R vectors of rows.
template <size_t R, size_t T>
void tile_product(const Matmul& m, const float* tile, size_t first, size_t row, size_t n_rows, size_t begin,
                  size_t depth) {
  const char* x[T];
  for (size_t t = 0; t < T; t++) x[t] = static_cast<const char*>(m.x[first + t]) + begin * sizeof(uint16_t);
  Vec sums[T][R];
#pragma GCC unroll 8
  for (size_t t = 0; t < T; t++) {
#pragma GCC unroll 4
    for (size_t r = 0; r < R; r++) sums[t][r] = zero();
  }
  for (size_t pair = 0; pair < (depth + 1) / 2; pair++) {
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

template <size_t R>
void tile_products(const Matmul& m, size_t row, size_t begin, size_t depth) {
  constexpr decltype(&tile_product<R, 1>) with[] = {tile_product<R, 1>, tile_product<R, 2>, tile_product<R, 3>,
                                                    tile_product<R, 4>, tile_product<R, 5>, tile_product<R, 6>};
  const size_t n_rows = smaller(R * lanes, m.rows - row);
  float* tile = m.scratch;
  pack_pairs<R>(static_cast<const uint16_t*>(m.weight) + row * m.columns, m.columns, n_rows, begin, depth, tile);
  const size_t n_chunks = (m.n + tile_most - 1) / tile_most, chunk = (m.n + n_chunks - 1) / n_chunks;
  for (size_t first = 0; first < m.n; first += chunk) {
    with[smaller(chunk, m.n - first) - 1](m, tile, first, row, n_rows, begin, depth);
  }
}

void matmul_many(const Matmul& m) {
  static_assert(bf16_tile_outputs == 4 * lanes);
  for (size_t begin = 0; begin < m.columns; begin += bf16_depth_block) {
    const size_t depth = smaller(bf16_depth_block, m.columns - begin);
    for (size_t row = 0; row < m.rows; row += bf16_tile_outputs) {
      switch ((smaller(bf16_tile_outputs, m.rows - row) + lanes - 1) / lanes) {
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
  } else if (m.n <= few_dots) {
    matmul_few(m);
  } else {
    matmul_many(m);
  }
}

}  // namespace finermoe::FINERMOE_KERNELS
