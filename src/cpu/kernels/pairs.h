// Floats turned into pairs of BF16, and attention in pairs.
#pragma once

#include "cpu/kernels/attention_tiles.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

inline __m512bh bits(Vec v) { return reinterpret_cast<__m512bh>(v); }
// a in the lower half and b in the upper half, as BF16.
inline __m512i to_bf16(Vec a, Vec b) { return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a)); }
// Neighbouring BF16 of a and b.
inline __m512i pairs_of(Vec a, Vec b) {
  alignas(64) static constexpr uint16_t alternating[32] = {0,  16, 1,  17, 2,  18, 3,  19, 4,  20, 5,
                                                           21, 6,  22, 7,  23, 8,  24, 9,  25, 10, 26,
                                                           11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
  return _mm512_permutexvar_epi16(_mm512_load_si512(alternating), to_bf16(a, b));
}

// Multiplies lines of pairs, for attention.
struct Pairs {
  static constexpr size_t pair = 2, factors = 1, lane_bytes = 4;
  static Vec line(const char* p) { return load(reinterpret_cast<const float*>(p)); }
  static Vec part(Vec line, size_t) { return line; }
  static Vec add(Vec sums, float pair_of_query, Vec part) {
    return _mm512_dpbf16_ps(sums, bits(broadcast(pair_of_query)), bits(part));
  }
  // Turns [n] floats into [n / 2] pairs, in place.
  static void convert_row(float* row, size_t n) {
    for (size_t i = 0; i < n; i += 2 * lanes) {
      const Vec second = i + lanes < n ? load(row + i + lanes) : zero();
      _mm512_storeu_si512(row + i / 2, to_bf16(load(row + i), second));
    }
  }
  // Turns lines 2k and 2k + 1 into pairs in line k.
  static void convert_tile(float* tile, size_t n_lines) {
    for (size_t k = 0; k < n_lines; k += 2, tile += tile_width) {
      const float* from = tile + k * tile_width / 2;
      for (size_t i = 0; i < tile_width; i += lanes) {
        const Vec a = load(from + i), b = load(from + tile_width + i);
        _mm512_storeu_si512(tile + i, pairs_of(a, b));
      }
    }
  }
};

// Attention over a cache of any type; Products<tiles of the cache> multiply.
template <template <class> class Products>
void attend_in_pairs(const AttentionTask& t) {
  switch (t.dtype) {
    case DType::f32:
      return attend<Products<ConvertedTiles<DType::f32, Pairs>>>(t);
    case DType::f16:
      return attend<Products<ConvertedTiles<DType::f16, Pairs>>>(t);
    case DType::bf16:
      return attend<Products<CacheTiles<Pairs>>>(t);
    default:
      return attend<Products<ConvertedTiles<DType::q8, Pairs>>>(t);
  }
}
// What it needs at most: converting any type takes the same.
template <template <class> class Products>
size_t attend_in_pairs_scratch(size_t head_size) {
  return attend_scratch<Products<ConvertedTiles<DType::f32, Pairs>>>(attention_max_queries, head_size);
}

}  // namespace
}  // namespace finermoe::FINERMOE_KERNELS
