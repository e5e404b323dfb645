// AVX-512 vectors: sixteen floats. Everything is static: internal to the unit that includes it (see isa.h).
#pragma once

#include <immintrin.h>

#include "cpu/kernels.h"

namespace finermoe::avx512 {

using Vec = __m512;
enum : size_t {
  lanes = 16,
  tile_step = 4,        // a packed block holds one, two or three times as many vectors: 24 accumulators of 32 registers
  dot_vectors = 6,      // vectors that share one reading of four rows: 24 accumulators
  dot_max_vectors = 48  // more are multiplied by packed tiles
};

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
// By integers, because the instruction for it takes subnormals for zero.
static inline void store_bf16(void* p, Vec v) {
  const __m512i bits = _mm512_castps_si512(v);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __mmask16 nan = _mm512_cmp_ps_mask(v, v, _CMP_UNORD_Q);
  rounded = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x400000));
  _mm256_storeu_si256(static_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(rounded, 16)));
}

static inline float sum(Vec v) { return _mm512_reduce_add_ps(v); }
// The sums of four vectors, each in the same order as its neighbours'.
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
