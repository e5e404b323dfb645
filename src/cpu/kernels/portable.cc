// The portable kernels: plain loops, the oracle that all others are tested against.
#include <cmath>
#include <cstring>

#include "cpu/kernels.h"

namespace finermoe::portable {
namespace {

float element(const void* data, DType dtype, size_t i) {
  if (dtype == DType::f32) {
    float value;
    std::memcpy(&value, static_cast<const float*>(data) + i, sizeof value);  // a file may lie at any address
    return value;
  }
  const uint16_t bits = static_cast<const uint16_t*>(data)[i];
  return dtype == DType::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

// Sixteen partial sums, so that a compiler can use whatever vectors the processor has without changing the order.
float dot(const float* x, const void* w, DType dtype, size_t offset, size_t n) {
  constexpr size_t lanes = 16;
  float sums[lanes] = {};
  size_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (size_t lane = 0; lane < lanes; lane++) sums[lane] += x[i + lane] * element(w, dtype, offset + i + lane);
  }
  for (size_t lane = 0; i < n; i++, lane++) sums[lane] += x[i] * element(w, dtype, offset + i);
  for (size_t width = lanes / 2; width > 0; width /= 2) {
    for (size_t lane = 0; lane < width; lane++) sums[lane] += sums[lane + width];
  }
  return sums[0];
}

void widen(const void* in, DType dtype, size_t n, float* out) {
  for (size_t i = 0; i < n; i++) out[i] = element(in, dtype, i);
}

void narrow(const float* in, DType dtype, size_t n, void* out) {
  if (dtype == DType::f32) {
    std::memcpy(out, in, n * sizeof(float));
    return;
  }
  auto* halves = static_cast<uint16_t*>(out);
  for (size_t i = 0; i < n; i++) halves[i] = dtype == DType::bf16 ? float_to_bf16(in[i]) : float_to_f16(in[i]);
}

void rms_norm(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out) {
  const float mean = dot(x, x, DType::f32, 0, n) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + eps);
  for (size_t i = 0; i < n; i++) out[i] = x[i] * scale * element(weight, dtype, i);
}

void silu_multiply(float* gate, const float* up, float scale, size_t n) {
  for (size_t i = 0; i < n; i++) gate[i] = scale * (gate[i] / (1.0f + std::exp(-gate[i]))) * up[i];
}

void rotate(float* x, const float* cos, const float* sin, size_t half) {
  for (size_t i = 0; i < half; i++) {
    const float a = x[i], b = x[half + i];
    x[i] = a * cos[i] - b * sin[i];
    x[half + i] = b * cos[i] + a * sin[i];
  }
}

void matmul(const Matmul& t) {
  for (size_t row = 0; row < t.rows; row++) {
    for (size_t i = 0; i < t.n; i++) {
      const float product = dot(t.x[i], t.weight, t.dtype, row * t.columns, t.columns);
      t.out[i][row] = t.accumulate ? t.out[i][row] + product : product;
    }
  }
}

// Online softmax over blocks of positions: memory does not grow with the length.
void attention(const AttentionTask& t) {
  const size_t d = t.head_size;
  for (size_t i = 0; i < t.n; i++) {
    float largest = -INFINITY, sum = 0;
    float* out = t.out[i];
    for (size_t c = 0; c < d; c++) out[c] = 0;
    for (size_t begin = 0; begin < t.visible[i]; begin += attention_key_block) {
      const size_t end = begin + attention_key_block < t.visible[i] ? begin + attention_key_block : t.visible[i];
      float scores[attention_key_block];
      float new_largest = largest;
      for (size_t p = begin; p < end; p++) {
        scores[p - begin] = t.scale * dot(t.q[i], t.keys, t.dtype, p * d, d);
        new_largest = std::fmax(new_largest, scores[p - begin]);
      }
      const float rescale = std::exp(largest - new_largest);  // 0 in the first block
      largest = new_largest;
      sum *= rescale;
      for (size_t c = 0; c < d; c++) out[c] *= rescale;
      for (size_t p = begin; p < end; p++) {
        const float share = std::exp(scores[p - begin] - largest);
        sum += share;
        for (size_t c = 0; c < d; c++) out[c] += share * element(t.values, t.dtype, p * d + c);
      }
    }
    for (size_t c = 0; c < d; c++) out[c] /= sum;
  }
}

}  // namespace

const Kernels kernels = {widen, narrow, rms_norm, silu_multiply, rotate, matmul, attention};

}  // namespace finermoe::portable
