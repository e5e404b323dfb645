// Elementwise kernels (conversions, norm, activation, rotary embedding), and the table of all kernels.
#include "cpu/kernels/isa.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

template <DType D>
void widen_as(const char* in, size_t n, float* out) {
  for (size_t i = 0; i < n; i += lanes) store_up_to(out + i, load_up_to<D>(in + bytes_of<D>(i), n - i), n - i);
}

template <DType D>
void rms_norm_as(const float* x, const char* weight, float eps, size_t n, float* out) {
  Vec squares = zero();
  for (size_t i = 0; i < n; i += lanes) {
    const Vec v = load_up_to<DType::f32>(x + i, n - i);
    squares = fma(v, v, squares);
  }
  const Vec scale = broadcast(1.0f / __builtin_sqrtf(sum(squares) / static_cast<float>(n) + eps));
  for (size_t i = 0; i < n; i += lanes) {
    const Vec normed = mul(load_up_to<DType::f32>(x + i, n - i), scale);
    store_up_to(out + i, mul(normed, load_up_to<D>(weight + bytes_of<D>(i), n - i)), n - i);
  }
}

}  // namespace

void widen(const void* in, DType dtype, size_t n, float* out) {
  const char* bytes = static_cast<const char*>(in);
  switch (dtype) {
    case DType::f32:
      return widen_as<DType::f32>(bytes, n, out);
    case DType::f16:
      return widen_as<DType::f16>(bytes, n, out);
    default:
      return widen_as<DType::bf16>(bytes, n, out);
  }
}

void round_to(const float* in, DType dtype, size_t n, void* out) {
  if (dtype == DType::f32) {
    __builtin_memcpy(out, in, n * sizeof(float));
    return;
  }
  char* bytes = static_cast<char*>(out);
  for (size_t i = 0; i < n; i += lanes) {
    const Vec v = load_up_to<DType::f32>(in + i, n - i);
    uint16_t halves[lanes];
    if (dtype == DType::f16) {
      store_f16(halves, v);
    } else {
      store_bf16(halves, v);
    }
    __builtin_memcpy(bytes + i * sizeof *halves, halves, smaller(lanes, n - i) * sizeof *halves);
  }
}

void rms_norm(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out) {
  const char* bytes = static_cast<const char*>(weight);
  switch (dtype) {
    case DType::f32:
      return rms_norm_as<DType::f32>(x, bytes, eps, n, out);
    case DType::f16:
      return rms_norm_as<DType::f16>(x, bytes, eps, n, out);
    default:
      return rms_norm_as<DType::bf16>(x, bytes, eps, n, out);
  }
}

void silu_multiply(float* gate, const float* up, float scale, size_t n) {
  for (size_t i = 0; i < n; i += lanes) {
    const Vec g = load_up_to<DType::f32>(gate + i, n - i), u = load_up_to<DType::f32>(up + i, n - i);
    const Vec silu = div(g, add(broadcast(1.0f), exp(sub(zero(), g))));
    store_up_to(gate + i, mul(mul(broadcast(scale), silu), u), n - i);
  }
}

void rotate(float* x, const float* cos, const float* sin, size_t half) {
  for (size_t i = 0; i < half; i += lanes) {
    const size_t n = half - i;
    const Vec a = load_up_to<DType::f32>(x + i, n), b = load_up_to<DType::f32>(x + half + i, n);
    const Vec c = load_up_to<DType::f32>(cos + i, n), s = load_up_to<DType::f32>(sin + i, n);
    store_up_to(x + i, fnma(b, s, mul(a, c)), n);
    store_up_to(x + half + i, fma(a, s, mul(b, c)), n);
  }
}

const Kernels kernels = {.widen = widen,
                         .round_to = round_to,
                         .rms_norm = rms_norm,
                         .silu_multiply = silu_multiply,
                         .rotate = rotate,
                         .quantize_activations = quantize_activations,
                         .fast_form = fast_form,
                         .matmul = matmul,
                         .attention = attention,
                         .matmul_scratch = matmul_scratch,
                         .attention_scratch = attention_scratch};

}  // namespace finermoe::FINERMOE_KERNELS
