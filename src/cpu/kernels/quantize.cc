// Quantizes activations for the weights that they are multiplied with: to BF16, or to blocks of 8 bits.
#include <iterator>
#include <limits>

#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

constexpr float least_max = 1e-30f, most_max = std::numeric_limits<float>::max();

// One block: codes x / scale. Of four scales, with max |x| at 127, 126, 125 and 124, it takes the one with the least
// squared error: a seventh less than with the first alone.
void quantize_block(const float* x, size_t n, signed char* codes, float* scale, int* offset) {
  constexpr size_t n_vectors = block_columns / lanes;
  constexpr float steps[] = {127, 126, 125, 124};
  Vec v[n_vectors], most = zero();
  for (size_t i = 0; i < n_vectors; i++) {
    v[i] = i * lanes < n ? load_up_to<DType::f32>(x + i * lanes, n - i * lanes) : zero();
    most = larger_magnitude(most, absolute(v[i]));
  }
  const float max_abs = max_magnitude(most);
  // Tiny values become zeros. A NaN or infinity shows in the scale alone.
  const float inverse = max_abs > least_max && max_abs <= most_max ? 1 / max_abs : 0;
  Vec errors[std::size(steps)];
#pragma GCC unroll 4
  for (size_t s = 0; s < std::size(steps); s++) {
    errors[s] = zero();
    for (size_t i = 0; i < n_vectors; i++) {
      const Vec rest = mul(rounding_error(mul(v[i], broadcast(steps[s] * inverse))), broadcast(1 / steps[s]));
      errors[s] = fma(rest, rest, errors[s]);
    }
  }
  // The first of the least errors, without a branch, which would often be mispredicted.
  const __m128 error = sums_of_four(errors[0], errors[1], errors[2], errors[3]);
  __m128 least = _mm_min_ps(error, _mm_movehl_ps(error, error));
  least = _mm_min_ps(least, _mm_shuffle_ps(least, least, 1));
  const int is_least = _mm_movemask_ps(_mm_cmpeq_ps(error, _mm_shuffle_ps(least, least, 0)));
  const int best = __builtin_ctz(static_cast<unsigned>(is_least) | 8u);
  Sums sums = first_sums(0);
  for (size_t i = 0; i < n_vectors; i++) {
    const Vec scaled = inverse == 0 ? zero() : mul(v[i], broadcast(steps[best] * inverse));
    sums = store_as_bytes(codes + i * lanes, scaled, sums);
  }
  *scale = max_abs <= most_max ? max_abs / steps[best] : std::numeric_limits<float>::quiet_NaN();
  *offset = -128 * sum_of(sums);
}

void quantize_to_blocks(const float* x, size_t columns, size_t begin, size_t end, char* out) {
  const size_t padded = round_up(columns, block_columns), blocks = padded / block_columns;
  auto* codes = reinterpret_cast<signed char*>(out);
  float* scales = reinterpret_cast<float*>(out + padded);
  int* offsets = reinterpret_cast<int*>(out + padded + blocks * sizeof(float));
  for (size_t c = begin; c < end; c += block_columns) {
    const size_t block = c / block_columns;
    quantize_block(x + (c - begin), smaller(block_columns, end - c), codes + c, scales + block, offsets + block);
  }
}

void round_to_bf16(const float* x, size_t begin, size_t end, char* out) {
  for (size_t c = begin; c < end; c += lanes) {
    store_bf16(out + c * sizeof(uint16_t), load_up_to<DType::f32>(x + (c - begin), end - c));
  }
  for (size_t c = round_up(end, lanes); c < round_up(end, block_columns); c += lanes) {
    store_bf16(out + c * sizeof(uint16_t), zero());
  }
}

}  // namespace

void quantize_activations(const float* x, Form form, size_t columns, size_t begin, size_t end, void* out) {
  if (form == Form::bf16) {
    round_to_bf16(x, begin, end, static_cast<char*>(out));
  } else {
    quantize_to_blocks(x, columns, begin, end, static_cast<char*>(out));
  }
}

Form fast_form(DType weights, size_t, [[maybe_unused]] bool bf16_dots) {
#if defined(__AVX512BF16__)
  if (weights == DType::bf16 && bf16_dots) return Form::bf16;
#endif
  return weights == DType::q8 || weights == DType::q4 ? Form::blocks : Form::floats;
}

}  // namespace finermoe::FINERMOE_KERNELS
