// AVX2 vectors, with and without VNNI: eight floats. Everything is static: internal to the unit that includes it (see
// isa.h).
#pragma once

#include <immintrin.h>

#include "cpu/kernels.h"

namespace finermoe::FINERMOE_KERNELS {

using Vec = __m256;
constexpr size_t lanes = 8;
// A packed block holds one, two or three times as many vectors: 12 accumulators of 16 registers.
constexpr size_t tile_step = 2;
constexpr size_t dot_vectors = 2;      // vectors for which four rows are read once: 8 accumulators
constexpr size_t dot_max_vectors = 6;  // more vectors are multiplied by packed tiles

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

// The sums of four vectors, all in the same order.
static inline __m128 sums_of_four(Vec a, Vec b, Vec c, Vec d) {
  auto halve = [](Vec v) { return _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1)); };
  return _mm_hadd_ps(_mm_hadd_ps(halve(a), halve(b)), _mm_hadd_ps(halve(c), halve(d)));
}
static inline float sum(Vec v) { return _mm_cvtss_f32(sums_of_four(v, v, v, v)); }

// Lanes of two BF16 each, the first in the low half: as floats, and with zeros for the second.
static inline Vec first_bf16(Vec v) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(v), 16)); }
static inline Vec second_bf16(Vec v) { return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(-65536))); }
static inline Vec only_first_bf16(Vec v) { return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_set1_epi32(65535))); }

// Codes of the block formats: 4 adjacent columns of as many rows as there are lanes.
using Codes = __m256i;
using Sums = __m256i;
static inline Codes load_codes(const unsigned char* p) { return _mm256_loadu_si256(reinterpret_cast<const Codes*>(p)); }
// Converts between signed codes and unsigned ones that are 128 too large.
static inline Codes flip_signs(Codes v) { return _mm256_xor_si256(v, _mm256_set1_epi8(-128)); }
static inline void store_codes(unsigned char* p, Codes v) { _mm256_storeu_si256(reinterpret_cast<Codes*>(p), v); }
static inline Codes low_halves(Codes v) { return _mm256_and_si256(v, _mm256_set1_epi8(15)); }
static inline Codes high_halves(Codes v) { return low_halves(_mm256_srli_epi16(v, 4)); }
static inline Codes look_up(const unsigned char* table, Codes index) {  // table [16]
  const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
  return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), index);
}
// The codes of column `column` (0 to 3) as floats, minus the 128 that is added in storage.
static inline Vec column_of(Codes v, int column) {
  const __m256i code = _mm256_and_si256(_mm256_srli_epi32(v, 8 * column), _mm256_set1_epi32(255));
  return _mm256_sub_ps(_mm256_cvtepi32_ps(code), _mm256_set1_ps(128));
}
static inline Codes broadcast_four(const signed char* x) {
  int four;
  __builtin_memcpy(&four, x, sizeof four);
  return _mm256_set1_epi32(four);
}
// sums + (codes - 128) * x over 4 columns.
#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
// Codes are multiplied as they are stored; sums begin with the activations' offset.
static inline Sums first_sums(int offset) { return _mm256_set1_epi32(offset); }
static inline Sums add_products(Sums sums, Codes codes, Codes x) { return _mm256_dpbusd_epi32(sums, codes, x); }
#else
// Without VNNI, the sign of a code moves to the other factor, so that the sum of two products fits 16 bits. The
// activations' offset is not needed.
static inline Sums first_sums(int) { return _mm256_setzero_si256(); }
static inline Sums add_products(Sums sums, Codes codes, Codes x) {
  const __m256i values = _mm256_xor_si256(codes, _mm256_set1_epi8(-128));
  const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(values), _mm256_sign_epi8(x, values));
  return _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#endif
static inline Vec to_float(Sums sums) { return _mm256_cvtepi32_ps(sums); }
// Rounds to integers that fit a byte, stores them and adds them to `sums`.
static inline Sums store_as_bytes(signed char* p, Vec v, Sums sums) {
  const __m256i whole = _mm256_cvtps_epi32(v);
  const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(words, words));
  return _mm256_add_epi32(sums, whole);
}
static inline int sum_of(Sums sums) {
  __m128i four = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256(sums, 1));
  four = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(four, _mm_shuffle_epi32(four, 0xb1)));
}
// a minus the nearest integer
static inline Vec rounding_error(Vec a) { return _mm256_sub_ps(a, round(a)); }
static inline float max_of(Vec v) {
  __m128 most = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  most = _mm_max_ps(most, _mm_movehl_ps(most, most));
  return _mm_cvtss_f32(_mm_max_ss(most, _mm_shuffle_ps(most, most, 1)));
}
// By magnitude, where infinity is larger than every number and NaN larger than infinity.
static inline Vec absolute(Vec v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
static inline Vec larger_magnitude(Vec a, Vec b) {
  return _mm256_castsi256_ps(_mm256_max_epu32(_mm256_castps_si256(a), _mm256_castps_si256(b)));
}
static inline float max_magnitude(Vec v) {
  const __m256i bits = _mm256_castps_si256(v);
  __m128i most = _mm_max_epu32(_mm256_castsi256_si128(bits), _mm256_extracti128_si256(bits, 1));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0x4e));
  most = _mm_max_epu32(most, _mm_shuffle_epi32(most, 0xb1));
  return _mm_cvtss_f32(_mm_castsi128_ps(most));
}

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

}  // namespace finermoe::FINERMOE_KERNELS
