// Vectors in a KV cache.
#pragma once

#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"

namespace finermoe::cuda {

// Element i of the vector at a position of a head.
__device__ inline float load_cached(const KvLayout& layout, const std::byte* head, unsigned position, unsigned i) {
  const std::byte* const vector = head + position * layout.vector_bytes();
  if (layout.dtype == DType::f32) return reinterpret_cast<const float*>(vector)[i];
  if (layout.dtype == DType::q8) {
    const auto* const scales =
        reinterpret_cast<const uint16_t*>(head + layout.scales_at() + position * layout.scale_bytes());
    return from_f16(scales[i / block_columns]) * static_cast<float>(reinterpret_cast<const int8_t*>(vector)[i]);
  }
  const uint16_t bits = reinterpret_cast<const uint16_t*>(vector)[i];
  return layout.dtype == DType::bf16 ? from_bf16(bits) : from_f16(bits);
}

// A warp quantizes a block of 32 elements: the largest magnitude becomes 127. A block with a value that is not finite
// becomes NaN.
__device__ inline void store_block(float x, unsigned block, unsigned position, const KvLayout& layout,
                                   std::byte* head) {
  const unsigned lane = threadIdx.x % warp_size;
  const float largest = warp_max(fabsf(x));
  const bool is_wrong = warp_max(x * 0 == 0 ? 0 : 1) > 0;
  const uint16_t scale = is_wrong ? to_f16(NAN) : to_f16(largest / 127);
  const float inverse = from_f16(scale) > 0 ? 1 / from_f16(scale) : 0;
  const float value = is_wrong ? 0 : fminf(fmaxf(x * inverse, -127.0f), 127.0f);
  auto* const codes = reinterpret_cast<int8_t*>(head + position * layout.vector_bytes());
  codes[block * block_columns + lane] = static_cast<int8_t>(__float2int_rn(value));
  if (lane != 0) return;
  reinterpret_cast<uint16_t*>(head + layout.scales_at() + position * layout.scale_bytes())[block] = scale;
}

// Puts a vector [head_size] at a position of a head. All threads of the block call it.
template <unsigned n_threads>
__device__ void store_vector(SharedArray<float, most_head_size>& vector, const KvLayout& layout, unsigned position,
                             std::byte* head) {
  const unsigned d = static_cast<unsigned>(layout.head_size);
  if (layout.dtype == DType::q8) {
    for (unsigned block = threadIdx.x / warp_size; block < layout.n_blocks(); block += n_threads / warp_size) {
      const unsigned i = block * block_columns + threadIdx.x % warp_size;
      store_block(i < d ? vector[i] : 0.0f, block, position, layout, head);
    }
    return;
  }
  std::byte* const to = head + position * layout.vector_bytes();
  for (unsigned i = threadIdx.x; i < d; i += n_threads) {
    if (layout.dtype == DType::f32) reinterpret_cast<float*>(to)[i] = vector[i];
    if (layout.dtype == DType::f16) reinterpret_cast<uint16_t*>(to)[i] = to_f16(vector[i]);
    if (layout.dtype == DType::bf16) reinterpret_cast<uint16_t*>(to)[i] = to_bf16(vector[i]);
  }
}

// Copies the vector at one position to another, earlier one.
template <unsigned n_threads>
__device__ void move_vector(const KvLayout& layout, unsigned from, unsigned to, std::byte* head) {
  for (size_t i = threadIdx.x; i < layout.vector_bytes(); i += n_threads) {
    head[to * layout.vector_bytes() + i] = head[from * layout.vector_bytes() + i];
  }
  std::byte* const scales = head + layout.scales_at();
  for (size_t i = threadIdx.x; i < layout.scale_bytes(); i += n_threads) {
    scales[to * layout.scale_bytes() + i] = scales[from * layout.scale_bytes() + i];
  }
  __syncthreads();
}

}  // namespace finermoe::cuda
