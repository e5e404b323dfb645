// The instruction set that a unit of kernels is compiled for: its namespace, its vectors, its functions.
//
// The files of this folder, except portable.cc, are compiled once for each set, with its flags. Everything that such a
// unit defines is static or in the set's own namespace: the linker keeps one copy of an inline function or template
// with external linkage, and if that is the AVX-512 copy, an older processor crashes. A test looks for such symbols.
#pragma once

#if defined(__AVX512BW__)
#define FINERMOE_KERNELS avx512
#elif defined(__AVX512VNNI__)
#define FINERMOE_KERNELS avx2_vnni_evex  // for the tests: avx2_vnni where only AVX-512 has its instruction
#elif defined(__AVXVNNI__)
#define FINERMOE_KERNELS avx2_vnni
#elif defined(__AVX2__)
#define FINERMOE_KERNELS avx2
#else
#error "compile this for an instruction set that has a simd_….h"
#endif
#if defined(__AVX512BW__)
#include "cpu/kernels/simd_avx512.h"
#else
#include "cpu/kernels/simd_avx2.h"
#endif
#include "base/places.h"

namespace finermoe::FINERMOE_KERNELS {

extern const Kernels kernels;
void widen(const void* in, DType dtype, size_t n, float* out);
void round_to(const float* in, DType dtype, size_t n, void* out);
void rms_norm(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out);
void silu_multiply(float* gate, const float* up, float scale, size_t n);
void rotate(float* x, const float* cos, const float* sin, size_t half);
void quantize_activations(const float* x, Form form, size_t columns, size_t begin, size_t end, void* out);
Form fast_form(DType weights, size_t n, bool bf16_dots);
void matmul(const Matmul& task);
size_t matmul_scratch(size_t n, size_t columns);
void matmul_blocks(const Matmul& task);  // of a block format
size_t matmul_blocks_scratch(size_t n, size_t columns);
#if defined(__AVX512BF16__)
void matmul_bf16(const Matmul& task);  // of BF16 with quantized activations
size_t matmul_bf16_scratch(size_t n);
#endif
void attention(const AttentionTask& task);
size_t attention_scratch(size_t head_size);
void attention_codes(const AttentionTask& task);  // of few queries over a Q8 cache
size_t attention_codes_scratch(size_t head_size);
#if defined(__AVX512BF16__)
void attention_pairs(const AttentionTask& task);  // in BF16
size_t attention_pairs_scratch(size_t head_size);
#endif

static constexpr size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
static constexpr size_t larger(size_t a, size_t b) { return a < b ? b : a; }

static constexpr size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

template <DType D>
static inline size_t bytes_of(size_t elements) {
  return elements * (D == DType::f32 ? 4 : 2);
}

// Loads n elements, padded with zeros to `lanes`; stores the first n lanes.
template <DType D>
static inline Vec load_up_to(const void* p, size_t n) {
  return n >= lanes ? load_as<D>(p) : load_first_as<D>(p, n);
}
static inline void store_up_to(float* p, Vec v, size_t n) {
  if (n >= lanes) {
    store(p, v);
  } else {
    store_first(p, v, n);
  }
}

// p[i] = v[i], or p[i] += v[i], for the first n lanes.
static inline void put_outputs(float* p, Vec v, size_t n, bool accumulate) {
  store_up_to(p, accumulate ? add(load_up_to<DType::f32>(p, n), v) : v, n);
}

// e^x within 2 units in the last place, from the clamped argument: at most 2.4e38, at least 1.2e-38; NaN stays NaN.
static inline Vec exp(Vec x) {
  x = max(broadcast(-87.3f), min(broadcast(88.37f), x));
  const Vec n = round(mul(x, broadcast(1.44269504f)));
  Vec r = fnma(n, broadcast(0.693359375f), x);  // ln 2 in two parts, the first exact in few bits
  r = fnma(n, broadcast(-2.12194440e-4f), r);
  Vec p = broadcast(1.0f / 5040);
  p = fma(p, r, broadcast(1.0f / 720));
  p = fma(p, r, broadcast(1.0f / 120));
  p = fma(p, r, broadcast(1.0f / 24));
  p = fma(p, r, broadcast(1.0f / 6));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return times_power_of_two(p, n);
}

}  // namespace finermoe::FINERMOE_KERNELS
