// Activations narrowed to what weights are multiplied with: BF16, or blocks of 8 bits.
#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr float smallest_top = 1e-30f;

// One block: codes x / scale. Four scales are tried, with max |x| at 127, 126, 125 and 124: how well a scale suits the
// block's numbers is chance, and the best of four leaves a seventh less squared error than the first.
void narrow_block(const float* x, size_t n, signed char* codes, float* scale, int* offset) {
  constexpr size_t n_vectors = block_columns / lanes, n_scales = 4;
  Vec v[n_vectors], most = zero(), not_finite = zero();
  for (size_t i = 0; i < n_vectors; i++) {
    v[i] = i * lanes < n ? load_up_to<DType::f32>(x + i * lanes, n - i * lanes) : zero();
    most = max(most, absolute(v[i]));
    not_finite = fma(v[i], zero(), not_finite);  // zeros, or NaN from NaN and infinity
  }
  const float top = largest(most), finite = sum(not_finite);
  float inverses[n_scales] = {};  // far below all others, numbers are zeros, which have no inverse
  size_t best = 0;
  if (finite == 0 && top > smallest_top) {
    Vec errors[n_scales];
    for (size_t s = 0; s < n_scales; s++) {
      const float step = static_cast<float>(127 - s);
      inverses[s] = step / top;
      errors[s] = zero();
      for (size_t i = 0; i < n_vectors; i++) {
        const Vec scaled = mul(v[i], broadcast(inverses[s]));
        const Vec rest = mul(sub(scaled, round(scaled)), broadcast(1 / step));
        errors[s] = fma(rest, rest, errors[s]);
      }
    }
    float error[n_scales];
    _mm_storeu_ps(error, sums_of_four(errors[0], errors[1], errors[2], errors[3]));
    for (size_t s = 1; s < n_scales; s++) best = error[s] < error[best] ? s : best;
  }
  int total = 0;
  for (size_t i = 0; i < n_vectors; i++) {
    total += store_as_bytes(codes + i * lanes, finite == 0 ? mul(v[i], broadcast(inverses[best])) : zero());
  }
  *scale = top / static_cast<float>(127 - best) + finite;
  *offset = -128 * total;
}

void narrow_to_blocks(const float* x, size_t columns, size_t begin, size_t end, char* out) {
  const size_t padded = round_up(columns, block_columns), blocks = padded / block_columns;
  auto* codes = reinterpret_cast<signed char*>(out);
  float* scales = reinterpret_cast<float*>(out + padded);
  int* offsets = reinterpret_cast<int*>(out + padded + blocks * sizeof(float));
  for (size_t c = begin; c < end; c += block_columns) {
    const size_t block = c / block_columns;
    narrow_block(x + (c - begin), smaller(block_columns, end - c), codes + c, scales + block, offsets + block);
  }
}

void narrow_to_bf16(const float* x, size_t begin, size_t end, char* out) {
  for (size_t c = begin; c < end; c += lanes) {
    store_bf16(out + c * sizeof(uint16_t), load_up_to<DType::f32>(x + (c - begin), end - c));
  }
  for (size_t c = round_up(end, lanes); c < round_up(end, block_columns); c += lanes) {
    store_bf16(out + c * sizeof(uint16_t), zero());
  }
}

}  // namespace

void narrow_activations(const float* x, DType weights, size_t columns, size_t begin, size_t end, void* out) {
  if (weights == DType::bf16) {
    narrow_to_bf16(x, begin, end, static_cast<char*>(out));
  } else {
    narrow_to_blocks(x, columns, begin, end, static_cast<char*>(out));
  }
}

bool narrows(DType weights) {
#if defined(__AVX512BF16__)
  if (weights == DType::bf16) return true;
#endif
  return weights == DType::q8 || weights == DType::q4;
}

}  // namespace finermoe::FINERMOE_KERNELS
