// Elements of every storage type, read as float32.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "cuda/kernels.h"

namespace finermoe::cuda {

__device__ inline float from_bf16(uint32_t bits) { return __uint_as_float(bits << 16); }
__device__ inline float from_f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t to_f16(float value) { return __half_as_ushort(__float2half_rn(value)); }
// Round to nearest, ties to even; a NaN stays a (quiet) NaN.
__device__ inline uint16_t to_bf16(float value) {
  const uint32_t bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
}

// 128 bits of what no kernel writes while this one runs.
__device__ inline uint4 load_128(const void* from) { return __ldg(static_cast<const uint4*>(from)); }
__device__ inline bool is_aligned(const void* address) { return reinterpret_cast<uintptr_t>(address) % 16 == 0; }

// Element `index` of a vector, or of a matrix that is not in blocks.
__device__ inline float load_number(DType dtype, const std::byte* data, size_t index) {
  if (dtype == DType::f32) return __ldg(reinterpret_cast<const float*>(data) + index);
  const uint16_t bits = __ldg(reinterpret_cast<const unsigned short*>(data) + index);
  return dtype == DType::bf16 ? from_bf16(bits) : from_f16(bits);
}

// The two numbers of 32 bits of a type with two bytes.
template <DType dtype>
__device__ inline void unpack_pair(uint32_t pair, float* out) {
  out[0] = dtype == DType::bf16 ? from_bf16(pair & 0xffffu) : from_f16(static_cast<uint16_t>(pair & 0xffffu));
  out[1] = dtype == DType::bf16 ? from_bf16(pair >> 16) : from_f16(static_cast<uint16_t>(pair >> 16));
}
template <DType dtype>
inline constexpr unsigned elements_of_128 = dtype == DType::f32 ? 4 : 8;
template <DType dtype>
__device__ inline void load_elements(const void* from, float (&out)[elements_of_128<dtype>]) {
  const uint4 bits = load_128(from);
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (unsigned i = 0; i < 4; i++) {
    if constexpr (dtype == DType::f32) {
      out[i] = __uint_as_float(words[i]);
    } else {
      unpack_pair<dtype>(words[i], out + 2 * i);
    }
  }
}

// Four codes of a block, a byte each, as numbers: of Q8 value + 128, of Q4 the index of a value in the low four bits.
__device__ inline void q8_values_of(uint32_t codes, float (&out)[4]) {
#pragma unroll
  for (unsigned i = 0; i < 4; i++) out[i] = static_cast<float>(static_cast<int>(codes >> (8 * i) & 0xffu) - 128);
}
__device__ inline void q4_values_of(uint32_t codes, float (&out)[4]) {
  // The table of base/blocks.h, four int8 in a word.
  constexpr uint32_t table[4] = {0xc4b39d81u, 0xf7ece0d3u, 0x20140a01u, 0x6a503d2eu};
  // The indices as the nibbles of a selector: first their low three bits in each half of the table, then the half.
  uint32_t nibbles = codes & 0x0f0f0f0fu;
  nibbles = (nibbles | nibbles >> 4) & 0x00ff00ffu;
  nibbles = (nibbles | nibbles >> 8) & 0xffffu;
  const uint32_t low = __byte_perm(table[0], table[1], nibbles & 0x7777u);
  const uint32_t high = __byte_perm(table[2], table[3], nibbles & 0x7777u);
  const uint32_t values = __byte_perm(low, high, 0x3210u | (nibbles & 0x8888u) >> 1);
#pragma unroll
  for (unsigned i = 0; i < 4; i++) out[i] = static_cast<float>(static_cast<int8_t>(values >> (8 * i) & 0xffu));
}

__device__ inline const std::byte* block_of(const Matrix& matrix, uint32_t row, uint32_t column) {
  const uint64_t index = row / panel_rows * blocks_of(matrix.columns) + column / block_columns;
  return matrix.data + index * block_bytes(matrix.dtype);
}
__device__ inline float scale_of(const std::byte* block, uint32_t row_of_panel) {
  return from_f16(__ldg(reinterpret_cast<const unsigned short*>(block) + row_of_panel));
}

// Columns [column, column + 4) of a row of any type, 0 beyond the last; `column` is a multiple of 4.
__device__ inline void load_weights(const Matrix& matrix, uint32_t row, uint32_t column, float (&out)[4]) {
  if (is_blocked(matrix.dtype)) {
    const std::byte* const block = block_of(matrix, row, column);
    const uint32_t r = row % panel_rows, c = column % block_columns;
    const bool is_q4 = matrix.dtype == DType::q4;
    const auto* const words = reinterpret_cast<const uint32_t*>(block + block_scale_bytes);
    const uint32_t codes = __ldg(words + (is_q4 ? c % 16 : c) / 4 * panel_rows + r);
    if (is_q4) {
      q4_values_of(c < 16 ? codes : codes >> 4, out);
    } else {
      q8_values_of(codes, out);
    }
    const float scale = scale_of(block, r);
#pragma unroll
    for (unsigned i = 0; i < 4; i++) out[i] *= scale;
  } else {
    const size_t first = size_t{row} * matrix.columns + column;
#pragma unroll
    for (unsigned i = 0; i < 4; i++) {
      out[i] = column + i < matrix.columns ? load_number(matrix.dtype, matrix.data, first + i) : 0;
    }
  }
#pragma unroll
  for (unsigned i = 0; i < 4; i++) out[i] = column + i < matrix.columns ? out[i] : 0;
}

// The same of a row of activations.
__device__ inline void load_activations(const float* row, uint32_t column, uint32_t columns, float (&out)[4]) {
  if (column + 4 <= columns && is_aligned(row + column)) {
    const float4 four = *reinterpret_cast<const float4*>(row + column);
    out[0] = four.x, out[1] = four.y, out[2] = four.z, out[3] = four.w;
    return;
  }
#pragma unroll
  for (unsigned i = 0; i < 4; i++) out[i] = column + i < columns ? row[column + i] : 0;
}

__device__ inline float sigmoid(float x) { return 1 / (1 + expf(-x)); }

}  // namespace finermoe::cuda
