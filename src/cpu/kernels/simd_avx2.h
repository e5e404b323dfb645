// AVX2 vectors: eight floats. Everything is static: internal to the unit that includes it (see isa.h).
#pragma once

#include <immintrin.h>

#include "cpu/kernels.h"

namespace finermoe::avx2 {

using Vec = __m256;
enum : size_t {
  lanes = 8,
  tile_step = 2,       // a packed block holds one, two or three times as many vectors: 12 accumulators of 16 registers
  dot_vectors = 2,     // vectors that share one reading of four rows: 8 accumulators
  dot_max_vectors = 6  // more are multiplied by packed tiles
};

static inline __m256i first(size_t n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_set_epi32(7, 6, 5, 4, 3, 2, 1, 0));
}

static inline Vec zero() { return _mm256_setzero_ps(); }
static inline Vec broadcast(float x) { return _mm256_set1_ps(x); }
static inline Vec load(const float* p) { return _mm256_loadu_ps(p); }
static inline void store(float* p, Vec v) { _mm256_storeu_ps(p, v); }
static inline void store_first(float* p, Vec v, size_t n) { _mm256_maskstore_ps(p, first(n), v); }
static inline Vec add(Vec a, Vec b) { return _mm256_add_ps(a, b); }
static inline Vec sub(Vec a, Vec b) { return _mm256_sub_ps(a, b); }
static inline Vec mul(Vec a, Vec b) { return _mm256_mul_ps(a, b); }
static inline Vec div(Vec a, Vec b) { return _mm256_div_ps(a, b); }
static inline Vec fma(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }    // a * b + c
static inline Vec fnma(Vec a, Vec b, Vec c) { return _mm256_fnmadd_ps(a, b, c); }  // c - a * b
static inline Vec min(Vec a, Vec b) { return _mm256_min_ps(a, b); }                // b where one is NaN
static inline Vec max(Vec a, Vec b) { return _mm256_max_ps(a, b); }                // b where one is NaN
static inline Vec round(Vec a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline Vec times_power_of_two(Vec a, Vec n) {  // n in [-126, 127]
  const __m256i exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
  return _mm256_mul_ps(a, _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23)));
}

// lanes elements of a type, widened exactly; load_first: n of them, and zeros.
template <DType D>
static inline Vec load_as(const void* p) {
  if constexpr (D == DType::f32) return _mm256_loadu_ps(static_cast<const float*>(p));
  const __m128i halves = _mm_loadu_si128(static_cast<const __m128i*>(p));
  if constexpr (D == DType::f16) return _mm256_cvtph_ps(halves);
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
template <DType D>
static inline Vec load_first_as(const void* p, size_t n) {
  if constexpr (D == DType::f32) return _mm256_maskload_ps(static_cast<const float*>(p), first(n));
  uint16_t halves[lanes] = {};
  __builtin_memcpy(halves, p, n * sizeof *halves);
  return load_as<D>(halves);
}

static inline void store_f16(void* p, Vec v) {
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
static inline void store_bf16(void* p, Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(v, v, _CMP_UNORD_Q));
  const __m256i high = _mm256_srli_epi32(_mm256_blendv_epi8(rounded, quiet, nan), 16);
  const __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(high, high), 0xd8);
  _mm_storeu_si128(static_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
}

// The sums of four vectors, each in the same order as its neighbours'.
static inline __m128 sums_of_four(Vec a, Vec b, Vec c, Vec d) {
  auto halve = [](Vec v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); };
  return _mm_hadd_ps(_mm_hadd_ps(halve(a), halve(b)), _mm_hadd_ps(halve(c), halve(d)));
}
static inline float sum(Vec v) { return _mm_cvtss_f32(sums_of_four(v, v, v, v)); }

// Transposes 8 x 8 by swapping ever larger blocks across the diagonal.
static inline void transpose(Vec* v) {
  for (int i = 0; i < 8; i += 2) {
    const Vec a = v[i], b = v[i + 1];
    v[i] = _mm256_blend_ps(a, _mm256_moveldup_ps(b), 0xaa);
    v[i + 1] = _mm256_blend_ps(_mm256_movehdup_ps(a), b, 0xaa);
  }
  for (int i = 0; i < 8; i++) {
    if ((i & 2) != 0) continue;
    const Vec a = v[i], b = v[i + 2];
    v[i] = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(1, 0, 1, 0));
    v[i + 2] = _mm256_shuffle_ps(a, b, _MM_SHUFFLE(3, 2, 3, 2));
  }
  for (int i = 0; i < 4; i++) {
    const Vec a = v[i], b = v[i + 4];
    v[i] = _mm256_permute2f128_ps(a, b, 0x20);
    v[i + 4] = _mm256_permute2f128_ps(a, b, 0x31);
  }
}

}  // namespace finermoe::avx2
