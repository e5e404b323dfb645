// AVX-512 vectors: sixteen floats. Everything is static: internal to the unit that includes it (see isa.h).
#pragma once

#include <immintrin.h>

#include "cpu/kernels.h"

namespace finermoe::avx512 {

using Vec = __m512;
constexpr size_t lanes = 16;
// A packed block holds one, two or three times as many vectors: 24 accumulators of 32 registers.
constexpr size_t tile_step = 4;
constexpr size_t dot_vectors = 6;       // vectors for which four rows are read once: 24 accumulators
constexpr size_t dot_max_vectors = 48;  // more vectors are multiplied by packed tiles

static inline __mmask16 first(size_t n) { return static_cast<__mmask16>((1u << n) - 1u); }

static inline Vec zero() { return _mm512_setzero_ps(); }
static inline Vec broadcast(float x) { return _mm512_set1_ps(x); }
static inline Vec load(const float* p) { return _mm512_loadu_ps(p); }
static inline void store(float* p, Vec v) { _mm512_storeu_ps(p, v); }
static inline void store_first(float* p, Vec v, size_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
static inline Vec add(Vec a, Vec b) { return _mm512_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm512_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm512_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm512_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm512_fmadd_ps(a, b, c); }    // a * b + c
static inline Vec fnma(Vec a, Vec b, Vec c) { return _mm512_fnmadd_ps(a, b, c); }  // c - a * b
static inline Vec min(Vec a, Vec b) { return _mm512_min_ps(a, b); }                // b where one is NaN
static inline Vec max(Vec a, Vec b) { return _mm512_max_ps(a, b); }                // b where one is NaN
static inline Vec round(Vec a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline Vec times_power_of_two(Vec a, Vec n) { return _mm512_scalef_ps(a, n); }

// lanes elements of a type, widened exactly; load_first: n of them, and zeros.
template <DType D>
static inline Vec load_as(const void* p) {
  if constexpr (D == DType::f32) return _mm512_loadu_ps(p);
  const __m256i halves = _mm256_loadu_si256(static_cast<const __m256i*>(p));
  if constexpr (D == DType::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
template <DType D>
static inline Vec load_first_as(const void* p, size_t n) {
  if constexpr (D == DType::f32) return _mm512_maskz_loadu_ps(first(n), p);
  const __m256i halves = _mm256_maskz_loadu_epi16(first(n), p);
  if constexpr (D == DType::f16) return _mm512_cvtph_ps(halves);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}

static inline void store_f16(void* p, Vec v) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
// With integer arithmetic, because the instruction for it flushes subnormals to zero.
static inline void store_bf16(void* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

// Lanes of two BF16 each, the first in the low half: as floats, and with zeros for the second.
static inline Vec first_bf16(Vec v) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(v), 16)); }
static inline Vec second_bf16(Vec v) { return _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(-65536))); }
static inline Vec only_first_bf16(Vec v) { return _mm512_and_ps(v, _mm512_castsi512_ps(_mm512_set1_epi32(65535))); }

// Codes of the block formats: 4 adjacent columns of as many rows as there are lanes.
using Codes = __m512i;
using Sums = __m512i;
static inline Codes load_codes(const unsigned char* p) { return _mm512_loadu_si512(p); }
// Converts between signed codes and unsigned ones that are 128 too large.
static inline Codes flip_signs(Codes v) { return _mm512_xor_si512(v, _mm512_set1_epi8(-128)); }
static inline void store_codes(unsigned char* p, Codes v) { _mm512_storeu_si512(p, v); }
static inline Codes low_halves(Codes v) { return _mm512_and_si512(v, _mm512_set1_epi8(15)); }
static inline Codes high_halves(Codes v) { return low_halves(_mm512_srli_epi16(v, 4)); }
static inline Codes look_up(const unsigned char* table, Codes index) {  // table [16]
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(values), index);
}
// The codes of column `column` (0 to 3) as floats, minus the 128 that is added in storage.
static inline Vec column_of(Codes v, int column) {
  const __m512i code =
      _mm512_and_si512(_mm512_srli_epi32(v, static_cast<unsigned>(8 * column)), _mm512_set1_epi32(255));
  return _mm512_sub_ps(_mm512_cvtepi32_ps(code), _mm512_set1_ps(128));
}
// sums + codes * x over 4 columns. Codes are multiplied as they are stored; sums begin with the activations' offset.
static inline Sums first_sums(int offset) { return _mm512_set1_epi32(offset); }
static inline Codes broadcast_four(const signed char* x) {
  int four;
  __builtin_memcpy(&four, x, sizeof four);
  return _mm512_set1_epi32(four);
}
static inline Sums add_products(Sums sums, Codes codes, Codes x) { return _mm512_dpbusd_epi32(sums, codes, x); }
static inline Vec to_float(Sums sums) { return _mm512_cvtepi32_ps(sums); }
// Rounds to integers that fit a byte, stores them and adds them to `sums`.
static inline Sums store_as_bytes(signed char* p, Vec v, Sums sums) {
  const __m512i whole = _mm512_cvtps_epi32(v);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(whole));
  return _mm512_add_epi32(sums, whole);
}
static inline int sum_of(Sums sums) { return _mm512_reduce_add_epi32(sums); }
// a minus the nearest integer
static inline Vec rounding_error(Vec a) { return _mm512_reduce_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline float max_of(Vec v) { return _mm512_reduce_max_ps(v); }
// By magnitude, where infinity is larger than every number and NaN larger than infinity.
static inline Vec absolute(Vec v) { return _mm512_abs_ps(v); }
static inline Vec larger_magnitude(Vec a, Vec b) {
  return _mm512_castsi512_ps(_mm512_max_epu32(_mm512_castps_si512(a), _mm512_castps_si512(b)));
}
static inline float max_magnitude(Vec v) {
  const unsigned bits = _mm512_reduce_max_epu32(_mm512_castps_si512(v));
  float top;
  __builtin_memcpy(&top, &bits, sizeof top);
  return top;
}

static inline float sum(Vec v) { return _mm512_reduce_add_ps(v); }
// The sums of four vectors, all in the same order.
static inline __m128 sums_of_four(Vec a, Vec b, Vec c, Vec d) {
  auto halve = [](Vec v) {
    const __m256 half = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
    return _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
  };
  return _mm_hadd_ps(_mm_hadd_ps(halve(a), halve(b)), _mm_hadd_ps(halve(c), halve(d)));
}

// Transposes 16 x 16 by swapping ever larger blocks across the diagonal.
static inline void transpose(Vec* v) {
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
#pragma GCC unroll 4
  for (int d = 1; d < 16; d *= 2) {
    const __mmask16 high = _mm512_test_epi32_mask(lane, _mm512_set1_epi32(d));
    // of the pair (a, b): a's low blocks and b's low blocks moved up; a's high blocks moved down and b's
    const __m512i from_b_down = _mm512_add_epi32(lane, _mm512_set1_epi32(16 - d));
    const __m512i from_a_up = _mm512_add_epi32(lane, _mm512_set1_epi32(d));
    const __m512i low = _mm512_mask_mov_epi32(lane, high, from_b_down);
    const __m512i up = _mm512_mask_mov_epi32(from_a_up, high, _mm512_add_epi32(lane, _mm512_set1_epi32(16)));
#pragma GCC unroll 16
    for (int i = 0; i < 16; i++) {
      if ((i & d) != 0) continue;
      const Vec a = v[i], b = v[i + d];
      v[i] = _mm512_permutex2var_ps(a, low, b);
      v[i + d] = _mm512_permutex2var_ps(a, up, b);
    }
  }
}

}  // namespace finermoe::avx512
