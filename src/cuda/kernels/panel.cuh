// The product of 16 rows of a matrix, a panel, and a few vectors, by one block of threads: what decoding is made of.
// Each weight is read once, 128 bits at a time.
#pragma once

#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"

namespace finermoe::cuda {

constexpr unsigned panel_warps = 8, panel_threads = panel_warps * warp_size;
constexpr unsigned rows_per_warp = panel_rows / panel_warps;  // where rows are not in blocks
// Partial sums [warps][rows][vectors]
template <unsigned N>
using PanelSums = SharedArray<float, panel_warps * panel_rows * N>;

// The vectors of a product, `stride` floats apart.
struct Vectors {
  const float* first;
  size_t stride;
  unsigned n;
  // The last one stands for those that are not there.
  __device__ const float* at(unsigned i) const { return first + (i < n ? i : n - 1) * stride; }
};

// A warp computes two rows of a matrix that is not in blocks.
template <DType dtype, unsigned N>
__device__ void add_rows(const Matrix& matrix, unsigned first_row, const Vectors& x, PanelSums<N>& parts) {
  constexpr unsigned per_load = elements_of_128<dtype>;
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size, columns = matrix.columns;
  const size_t row_bytes = size_t{columns} * size_of(dtype);
  const std::byte* rows[rows_per_warp];
#pragma unroll
  for (unsigned r = 0; r < rows_per_warp; r++) {
    const unsigned row = first_row + warp * rows_per_warp + r;  // beyond the last: that one again, for nothing
    rows[r] = matrix.data + (row < matrix.rows ? row : matrix.rows - 1) * row_bytes;
  }
  float sums[rows_per_warp][N] = {};
  const bool is_wide = row_bytes % 16 == 0 && is_aligned(matrix.data) && is_aligned(x.first) && x.stride % 4 == 0;
  const unsigned wide_end = is_wide ? columns : 0;
  for (unsigned c = lane * per_load; c < wide_end; c += warp_size * per_load) {
    float weights[rows_per_warp][per_load];
#pragma unroll
    for (unsigned r = 0; r < rows_per_warp; r++) load_elements<dtype>(rows[r] + c * size_of(dtype), weights[r]);
#pragma unroll
    for (unsigned v = 0; v < N; v++) {
      const auto* const from = reinterpret_cast<const float4*>(x.at(v) + c);
#pragma unroll
      for (unsigned i = 0; i < per_load / 4; i++) {
        const float4 four = from[i];
#pragma unroll
        for (unsigned r = 0; r < rows_per_warp; r++) {
          sums[r][v] = fmaf(weights[r][4 * i], four.x, sums[r][v]);
          sums[r][v] = fmaf(weights[r][4 * i + 1], four.y, sums[r][v]);
          sums[r][v] = fmaf(weights[r][4 * i + 2], four.z, sums[r][v]);
          sums[r][v] = fmaf(weights[r][4 * i + 3], four.w, sums[r][v]);
        }
      }
    }
  }
  for (unsigned c = wide_end + lane; c < columns; c += warp_size) {
#pragma unroll
    for (unsigned r = 0; r < rows_per_warp; r++) {
      const float weight = load_number(dtype, rows[r], c);
#pragma unroll
      for (unsigned v = 0; v < N; v++) sums[r][v] = fmaf(weight, x.at(v)[c], sums[r][v]);
    }
  }
  warp_sums(sums);
  if (lane != 0) return;
#pragma unroll
  for (unsigned r = 0; r < rows_per_warp; r++) {
#pragma unroll
    for (unsigned v = 0; v < N; v++) parts[(warp * rows_per_warp + r) * N + v] = sums[r][v];
  }
}

// A lane's 4 rows × 4 columns of a block, times a vector.
template <bool is_q4, unsigned N>
__device__ void add_codes(const uint4& codes, unsigned shift, const float (&scales)[4], unsigned column,
                          unsigned columns, const Vectors& x, float (&sums)[4][N]) {
  const uint32_t words[4] = {codes.x, codes.y, codes.z, codes.w};
  float values[4][4];
#pragma unroll
  for (unsigned r = 0; r < 4; r++) {
    if constexpr (is_q4) {
      q4_values_of(words[r] >> shift, values[r]);
    } else {
      q8_values_of(words[r], values[r]);
    }
  }
#pragma unroll
  for (unsigned v = 0; v < N; v++) {
    float four[4];
    load_activations(x.at(v), column, columns, four);
#pragma unroll
    for (unsigned r = 0; r < 4; r++) {
      float dot = values[r][0] * four[0];
      dot = fmaf(values[r][1], four[1], dot);
      dot = fmaf(values[r][2], four[2], dot);
      dot = fmaf(values[r][3], four[3], dot);
      sums[r][v] = fmaf(scales[r], dot, sums[r][v]);
    }
  }
}

// The warps share the blocks of a panel: of Q8 a warp takes one at a time, of Q4 two. A lane has 4 neighbouring rows.
template <bool is_q4, unsigned N>
__device__ void add_blocks(const Matrix& matrix, unsigned first_row, const Vectors& x, PanelSums<N>& parts) {
  constexpr unsigned lanes = is_q4 ? 16 : 32, at_once = warp_size / lanes;  // lanes of a block, blocks of a warp
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const unsigned quad = lane % 4, n_blocks = static_cast<unsigned>(blocks_of(matrix.columns));
  float sums[4][N] = {};
  for (unsigned b = warp * at_once + lane / lanes; b < n_blocks; b += panel_warps * at_once) {
    const std::byte* const block = block_of(matrix, first_row, b * block_columns);
    const uint4 codes = load_128(block + block_scale_bytes + lane % lanes * 16);
    const uint2 of_rows = __ldg(reinterpret_cast<const uint2*>(block) + quad);
    float scales[4];
    unpack_pair<DType::f16>(of_rows.x, scales);
    unpack_pair<DType::f16>(of_rows.y, scales + 2);
    const unsigned column = b * block_columns + lane % lanes / 4 * 4;
    add_codes<is_q4, N>(codes, 0, scales, column, matrix.columns, x, sums);
    if constexpr (is_q4) add_codes<is_q4, N>(codes, 4, scales, column + 16, matrix.columns, x, sums);
  }
  combine_each<4, 8, 16>(sums, SumOfTwo());
  if (lane >= 4) return;
#pragma unroll
  for (unsigned r = 0; r < 4; r++) {
#pragma unroll
    for (unsigned v = 0; v < N; v++) parts[(warp * panel_rows + 4 * quad + r) * N + v] = sums[r][v];
  }
}

// Thread r * N + v has the product of row first_row + r and vector v; others have 0. All threads of the block call it,
// and have a barrier between two calls, which use the same shared memory.
template <unsigned N>
__device__ float multiply_panel(const Matrix& matrix, unsigned first_row, const Vectors& x) {
  __shared__ PanelSums<N> parts;
  if (matrix.dtype == DType::q8) {
    add_blocks<false, N>(matrix, first_row, x, parts);
  } else if (matrix.dtype == DType::q4) {
    add_blocks<true, N>(matrix, first_row, x, parts);
  } else if (matrix.dtype == DType::bf16) {
    add_rows<DType::bf16, N>(matrix, first_row, x, parts);
  } else if (matrix.dtype == DType::f16) {
    add_rows<DType::f16, N>(matrix, first_row, x, parts);
  } else {
    add_rows<DType::f32, N>(matrix, first_row, x, parts);
  }
  __syncthreads();
  if (threadIdx.x >= panel_rows * N) return 0;
  const unsigned n_parts = is_blocked(matrix.dtype) ? panel_warps : 1;
  float sum = 0;
  for (unsigned part = 0; part < n_parts; part++) sum += parts[part * panel_rows * N + threadIdx.x];
  return sum;
}

}  // namespace finermoe::cuda
