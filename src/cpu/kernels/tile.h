// Packed tiles: many vectors times many rows, blocked for registers. Matmul and attention are built on them.
//
//   packed vectors  blocks of [depth, T], T a multiple of tile_step and at most block_vectors
//   packed rows     [depth, tile_width]
#pragma once

#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {

constexpr size_t tile_width = 2 * lanes, block_vectors = 3 * tile_step;
static_assert(tile_outputs % tile_width == 0);

namespace {

// Scratch for n vectors, matmul_depth_block columns at a time.
struct TileScratch {
  float* tile;     // [matmul_depth_block, tile_width]
  float* vectors;  // packed [n, matmul_depth_block], and what pack_vectors() writes beyond them
  TileScratch(Places& places, size_t n) {
    places.put(tile, matmul_depth_block * tile_width);
    places.put(vectors, round_up(n, tile_step) * matmul_depth_block + lanes);
  }
};

}  // namespace

// out[k][i] = rows[i][begin + k] for k < depth: `lanes` rows (null: zeros) become columns. Writes `lanes` floats at
// each out + k * stride, in ascending order.
template <DType D>
static inline void pack_rows(const char* const* rows, size_t begin, size_t depth, float* out, size_t stride) {
  for (size_t k = 0; k < depth; k += lanes) {
    const size_t count = smaller(lanes, depth - k);
    Vec v[lanes];
#pragma GCC unroll 16
    for (size_t i = 0; i < lanes; i++) {
      if (rows[i] == nullptr) {
        v[i] = zero();
        continue;
      }
      const char* p = rows[i] + bytes_of<D>(begin + k);
      v[i] = count == lanes ? load_as<D>(p) : load_first_as<D>(p, count);
    }
    transpose(v);
    for (size_t i = 0; i < count; i++) store(out + (k + i) * stride, v[i]);
  }
}

// Vectors in the block that begins at vector `first`, rounded up to what the registers are blocked for.
static inline size_t block_size(size_t first, size_t n) {
  return smaller(block_vectors, (n - first + tile_step - 1) / tile_step * tile_step);
}

// Packs columns [begin, begin + depth) of n vectors; writes up to `lanes` floats beyond the end.
static inline void pack_vectors(const float* const* x, size_t n, size_t begin, size_t depth, float* out) {
  for (size_t first = 0; first < n; first += block_vectors) {
    const char* rows[lanes];
    for (size_t i = 0; i < lanes; i++) {
      const bool exists = i < block_vectors && first + i < n;
      rows[i] = exists ? reinterpret_cast<const char*>(x[first + i]) : nullptr;
    }
    pack_rows<DType::f32>(rows, begin, depth, out + first * depth, block_size(first, n));
  }
}

// Packs columns [begin, begin + depth) of up to tile_width rows that lie `stride` elements apart.
template <DType D>
static inline void pack_tile(const char* weight, size_t n_rows, size_t stride, size_t begin, size_t depth, float* out) {
  for (size_t half = 0; half < tile_width; half += lanes) {
    const char* rows[lanes];
    for (size_t i = 0; i < lanes; i++) {
      rows[i] = half + i < n_rows ? weight + bytes_of<D>((half + i) * stride) : nullptr;
    }
    pack_rows<D>(rows, begin, depth, out + half, tile_width);
  }
}

// out[t][offset + o] (+)= sum over k of x[k][t] * w[k][o], for n <= T vectors and n_outputs <= tile_width outputs.
template <size_t T>
static inline void tile_product(const float* x, const float* w, size_t depth, float* const* out, size_t n,
                                size_t offset, size_t n_outputs, bool accumulate) {
  Vec sums[T][2];
#pragma GCC unroll 16
  for (size_t t = 0; t < T; t++) sums[t][0] = sums[t][1] = zero();
  for (size_t k = 0; k < depth; k++) {
    const Vec w0 = load(w + k * tile_width), w1 = load(w + k * tile_width + lanes);
#pragma GCC unroll 16
    for (size_t t = 0; t < T; t++) {
      const Vec factor = broadcast(x[k * T + t]);
      sums[t][0] = fma(factor, w0, sums[t][0]);
      sums[t][1] = fma(factor, w1, sums[t][1]);
    }
  }
#pragma GCC unroll 16
  for (size_t t = 0; t < T; t++) {
    if (t >= n) break;
    for (size_t half = 0; half < 2; half++) {
      if (half * lanes >= n_outputs) break;
      put_outputs(out[t] + offset + half * lanes, sums[t][half], n_outputs - half * lanes, accumulate);
    }
  }
}

// The same for any number of packed vectors.
static inline void tile_products(const float* x, size_t n, const float* w, size_t depth, float* const* out,
                                 size_t offset, size_t n_outputs, bool accumulate) {
  for (size_t first = 0; first < n; first += block_vectors) {
    const float* block = x + first * depth;
    const size_t count = smaller(block_vectors, n - first);
    switch (block_size(first, n) / tile_step) {
      case 1:
        tile_product<tile_step>(block, w, depth, out + first, count, offset, n_outputs, accumulate);
        break;
      case 2:
        tile_product<2 * tile_step>(block, w, depth, out + first, count, offset, n_outputs, accumulate);
        break;
      default:
        tile_product<3 * tile_step>(block, w, depth, out + first, count, offset, n_outputs, accumulate);
    }
  }
}

}  // namespace finermoe::FINERMOE_KERNELS
