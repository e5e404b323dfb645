#include "arithmetic.h"

#include <immintrin.h>

#include <vector>

#include "base/cpu_features.h"
#include "cpu/kernels/tile_configuration.h"

namespace finermoe::bench {
namespace {

// Twelve independent chains of one instruction.
#define FINERMOE_TWELVE(type, op)                                                                                      \
  type x{}, v0{}, v1{}, v2{}, v3{}, v4{}, v5{}, v6{}, v7{}, v8{}, v9{}, v10{}, v11{};                                  \
  for (long r = 0; r < repeats; r++) {                                                                                 \
    __asm__ volatile(op " %12,%12,%0\n" op " %12,%12,%1\n" op " %12,%12,%2\n" op " %12,%12,%3\n" op " %12,%12,%4\n" op \
                        " %12,%12,%5\n" op " %12,%12,%6\n" op " %12,%12,%7\n" op " %12,%12,%8\n" op " %12,%12,%9\n" op \
                        " %12,%12,%10\n" op " %12,%12,%11\n"                                                           \
                     : "+v"(v0), "+v"(v1), "+v"(v2), "+v"(v3), "+v"(v4), "+v"(v5), "+v"(v6), "+v"(v7), "+v"(v8),       \
                       "+v"(v9), "+v"(v10), "+v"(v11)                                                                  \
                     : "v"(x));                                                                                        \
  }
__attribute__((target("avx512f"))) void multiply_add_avx512(long repeats) { FINERMOE_TWELVE(__m512, "vfmadd231ps") }
__attribute__((target("avx512bf16"))) void dot_bf16(long repeats) { FINERMOE_TWELVE(__m512, "vdpbf16ps") }
__attribute__((target("avx512vnni"))) void dot_int8_avx512(long repeats) { FINERMOE_TWELVE(__m512, "vpdpbusd") }
__attribute__((target("avx2,fma"))) void multiply_add_avx2(long repeats) { FINERMOE_TWELVE(__m256, "vfmadd231ps") }
__attribute__((target("avxvnni"))) void dot_int8_avx_vnni(long repeats) { FINERMOE_TWELVE(__m256, "%{vex%} vpdpbusd") }

// Four tiles of BF16 that look like those of a model: a processor that multiplies zeros draws less power, and runs
// faster.
struct alignas(64) TileOperands {
  uint16_t numbers[4][512] = {};
  constexpr TileOperands() {
    uint32_t state = 1;
    for (auto& tile : numbers) {
      for (uint16_t& number : tile) {
        state = state * 1664525 + 1013904223;  // Numerical Recipes' generator
        number = static_cast<uint16_t>(0x3f80 | (state >> 31) << 15 | (state >> 20 & 0x7f));  // 1 to 2, of either sign
      }
    }
  }
};

// Matrix tiles: two by two products of BF16, whose operands are loaded from the first-level cache, as they have to be.
__attribute__((target("amx-tile,amx-bf16"))) void tiles_bf16(long repeats) {
  // Not a local variable: GCC does not know that the instruction reads all of it.
  static constexpr TileConfiguration configuration;
  static constexpr TileOperands operands;
  _tile_loadconfig(&configuration);
  for (long r = 0; r < repeats; r++) {
    _tile_loadd(4, operands.numbers[0], 64);
    _tile_loadd(5, operands.numbers[1], 64);
    _tile_loadd(6, operands.numbers[2], 64);
    _tile_loadd(7, operands.numbers[3], 64);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_release();
}

// Keeps the compiler from knowing a value, and so from computing with it once for all.
#define FINERMOE_OPAQUE(value) __asm__ volatile("" : "+v"(value))

// Six independent sums of dots of bytes without an instruction for it: two multiplications and an addition.
__attribute__((target("avx2"))) void dot_int8_avx2(long repeats) {
  __m256i x{}, sums[6] = {};
  FINERMOE_OPAQUE(x);
  for (long r = 0; r < repeats; r++) {
#pragma GCC unroll 6
    for (__m256i& sum : sums) {
      FINERMOE_OPAQUE(x);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, x), x));
    }
  }
  for (__m256i& sum : sums) FINERMOE_OPAQUE(sum);
}

// A block of 32 columns, of as many rows as a register has lanes, times six vectors: eight dots each, the sum as
// floats, the product of both scales, a multiply-add. Weights and activations stay in registers.
#define FINERMOE_BLOCKS(Floats, Integers, dot, to_float, mul, fma)    \
  Integers x{};                                                       \
  Floats weight_scale{}, vector_scale{}, out[6] = {};                 \
  for (long r = 0; r < repeats; r++) {                                \
    _Pragma("GCC unroll 6") for (Floats & one : out) {                \
      Integers sum{};                                                 \
      _Pragma("GCC unroll 8") for (int i = 0; i < 8; i++) {           \
        FINERMOE_OPAQUE(x);                                           \
        sum = dot(sum, x, x);                                         \
      }                                                               \
      FINERMOE_OPAQUE(vector_scale);                                  \
      one = fma(to_float(sum), mul(weight_scale, vector_scale), one); \
    }                                                                 \
  }                                                                   \
  for (Floats & one : out) FINERMOE_OPAQUE(one);

// Not the intrinsic: GCC 12 warns about its undefined register (GCC bug 105593).
#define FINERMOE_TO_FLOATS(sum) (__m512) __builtin_convertvector((__v16si)(sum), __v16sf)
__attribute__((target("avx512f,avx512vnni"))) void blocks_avx512(long repeats) {
  FINERMOE_BLOCKS(__m512, __m512i, _mm512_dpbusd_epi32, FINERMOE_TO_FLOATS, _mm512_mul_ps, _mm512_fmadd_ps)
}
__attribute__((target("avxvnni,fma"))) void blocks_avx_vnni(long repeats) {
  FINERMOE_BLOCKS(__m256, __m256i, _mm256_dpbusd_avx_epi32, _mm256_cvtepi32_ps, _mm256_mul_ps, _mm256_fmadd_ps)
}
#define FINERMOE_DOT_AVX2(sum, a, b) _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), x))
__attribute__((target("avx2,fma"))) void blocks_avx2(long repeats) {
  FINERMOE_BLOCKS(__m256, __m256i, FINERMOE_DOT_AVX2, _mm256_cvtepi32_ps, _mm256_mul_ps, _mm256_fmadd_ps)
}

}  // namespace

std::vector<ArithmeticWay> arithmetic_ways(Arithmetic kind) {
  const CpuFeatures features = detect_cpu_features();
  const bool has_tiles = features.amx && request_amx();
  std::vector<ArithmeticWay> ways;
  const auto add = [&](bool exists, ArithmeticWay way) {
    if (exists) ways.push_back(way);
  };
  switch (kind) {
    case Arithmetic::bf16:
      add(has_tiles, {tiles_bf16, 4 * 16 * 16 * 32});
      add(features.avx512, {dot_bf16, 12 * 32});
      [[fallthrough]];  // a BF16 number is a float32 one
    case Arithmetic::float32:
      add(features.avx512, {multiply_add_avx512, 12 * 16});
      add(features.avx2, {multiply_add_avx2, 12 * 8});
      break;
    case Arithmetic::int8:
      add(features.avx512, {dot_int8_avx512, 12 * 64});
      add(features.avx_vnni, {dot_int8_avx_vnni, 12 * 32});
      add(features.avx2, {dot_int8_avx2, 6 * 32});
      break;
    case Arithmetic::blocks:
      add(has_tiles, {tiles_bf16, 4 * 16 * 16 * 32});  // of weights that have become BF16
      add(features.avx512, {blocks_avx512, 6 * 8 * 64});
      add(features.avx_vnni, {blocks_avx_vnni, 6 * 8 * 32});
      add(features.avx2, {blocks_avx2, 6 * 8 * 32});
      break;
  }
  return ways;
}

}  // namespace finermoe::bench
