// The product of a tile on tensor cores: V rows of matrices and up to V vectors, by one block of threads, both brought
// to shared memory 32 columns at a time, in 16 bits, some steps ahead of the sums. Sums are in float32, in the order of
// the columns, whatever V is.
#pragma once

#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/tensor_core.cuh"

namespace finermoe::cuda {

constexpr unsigned tensor_threads = 256;
constexpr unsigned wide_tile = 128, narrow_tile = 64;  // what V may be
// Blocks of a product of wide tiles at least, so that there is one for most of the multiprocessors of a large device.
constexpr unsigned least_wide_blocks = 96;
constexpr unsigned step_columns = 32, chunk_columns = 8;  // of one step, and of 16 bytes
constexpr unsigned chunks_of_step = step_columns / chunk_columns;
// Steps that have a place in shared memory, of which all but one are on their way: the narrow tile, whose products wait
// for memory, has more of them in the same 48 KB.
template <unsigned V>
constexpr unsigned stages_of = V == wide_tile ? 3 : 6;
static_assert(step_columns == block_columns);

// The tile of a product of n vectors and a matrix of so many rows.
constexpr unsigned tensor_tile_of(unsigned n, unsigned rows) {
  const bool is_wide = n > narrow_tile && ceil_div(n, wide_tile) * ceil_div(rows, wide_tile) >= least_wide_blocks;
  return is_wide ? wide_tile : narrow_tile;
}

// The warps of a block are two along the vectors and four along the rows; each has some products of 16 × 8.
template <unsigned V>
using TensorSums = float[V / 32][V / 32][4];

// 16 bytes of a row of a tile: eight rows at one place of a step lie in different banks.
__device__ inline unsigned chunk_at(unsigned row, unsigned chunk) {
  return row * chunks_of_step + (chunk ^ (row / 2 % chunks_of_step));
}

// A row of a matrix, as a thread reads it.
struct WeightRow {
  const std::byte* data;  // of its first element or block; null beyond the last row
  DType dtype;
  bool is_async;  // can be copied as it is
  unsigned row_of_panel;
};
__device__ inline WeightRow weight_row(const Matrix& matrix, unsigned row) {
  if (row >= matrix.rows) return {nullptr, matrix.dtype, false, 0};
  if (is_blocked(matrix.dtype)) return {block_of(matrix, row, 0), matrix.dtype, false, row % unsigned{panel_rows}};
  const bool is_async = matrix.columns % chunk_columns == 0 && is_aligned(matrix.data);
  return {matrix.data + size_t{row} * matrix.columns * 2, matrix.dtype, is_async, 0};
}

// A chunk of a row that cannot be copied as it is. Of blocks: the codes, two words of four, and the scale.
struct RawChunk {
  uint32_t words[4];
};
__device__ inline RawChunk load_raw(const WeightRow& row, unsigned columns, unsigned step, unsigned chunk) {
  RawChunk raw{};
  if (row.data == nullptr || row.is_async) return raw;
  if (is_blocked(row.dtype)) {
    const std::byte* const block = row.data + step * block_bytes(row.dtype);
    const unsigned first = row.dtype == DType::q4 ? chunk % 2 * 2 : chunk * 2;  // of Q4 a byte is two columns
    const auto* const words = reinterpret_cast<const uint32_t*>(block + block_scale_bytes) + row.row_of_panel;
    raw.words[0] = __ldg(words + first * panel_rows);
    raw.words[1] = __ldg(words + (first + 1) * panel_rows);
    raw.words[2] = __ldg(reinterpret_cast<const unsigned short*>(block) + row.row_of_panel);
    return raw;
  }
  const auto* const elements = reinterpret_cast<const unsigned short*>(row.data);
  const unsigned column = step * step_columns + chunk * chunk_columns;
#pragma unroll
  for (unsigned i = 0; i < chunk_columns; i++) {
    if (column + i < columns) raw.words[i / 2] |= uint32_t{__ldg(elements + column + i)} << (i % 2 * 16);
  }
  return raw;
}
// As tensor cores take it. What a block has beyond the last column is some number, and that of the vectors is 0.
__device__ inline uint4 unpack_raw(const WeightRow& row, const RawChunk& raw, unsigned chunk) {
  if (row.data == nullptr || !is_blocked(row.dtype)) return {raw.words[0], raw.words[1], raw.words[2], raw.words[3]};
  const float scale = from_f16(static_cast<uint16_t>(raw.words[2]));
  uint32_t pairs[4];
#pragma unroll
  for (unsigned w = 0; w < 2; w++) {
    float values[4];
    if (row.dtype == DType::q4) {
      q4_values_of(chunk < 2 ? raw.words[w] : raw.words[w] >> 4, values);
    } else {
      q8_values_of(raw.words[w], values);
    }
#pragma unroll
    for (unsigned i = 0; i < 4; i++) values[i] *= scale;
    pairs[2 * w] = pack_pair<DType::bf16>(values[0], values[1]);
    pairs[2 * w + 1] = pack_pair<DType::bf16>(values[2], values[3]);
  }
  return {pairs[0], pairs[1], pairs[2], pairs[3]};
}

template <unsigned V>
struct TensorArrays {
  SharedArray<uint4, stages_of<V> * V * chunks_of_step> vectors, weights;
};

// What a thread brings to shared memory: of every 64th vector and row one chunk of each step.
template <unsigned V>
struct TensorLoads {
  static constexpr unsigned n_own = V * chunks_of_step / tensor_threads;
  const uint16_t* vectors[n_own];
  WeightRow rows[n_own];
  RawChunk raw[n_own];  // on its way
  unsigned columns, n_vectors;

  static __device__ unsigned own_chunk() { return threadIdx.x % chunks_of_step; }
  static __device__ unsigned own_row(unsigned i) {
    return threadIdx.x / chunks_of_step + i * (tensor_threads / chunks_of_step);
  }
  static __device__ unsigned place(unsigned step, unsigned i) {
    return step % stages_of<V> * V * chunks_of_step + chunk_at(own_row(i), own_chunk());
  }
  __device__ unsigned n_columns(unsigned step) const {
    const unsigned column = step * step_columns + own_chunk() * chunk_columns;
    return column >= columns ? 0 : columns - column < chunk_columns ? columns - column : chunk_columns;
  }

  __device__ void begin(unsigned step, TensorArrays<V>& shared) {
    const unsigned column = step * step_columns + own_chunk() * chunk_columns, n_bytes = n_columns(step) * 2;
#pragma unroll
    for (unsigned i = 0; i < n_own; i++) {
      const uint16_t* const from = vectors[i] + (n_bytes > 0 ? column : 0);
      copy_async(shared.vectors, place(step, i), from, own_row(i) < n_vectors ? n_bytes : 0);
      if (rows[i].is_async) {
        copy_async(shared.weights, place(step, i), rows[i].data + (n_bytes > 0 ? column * 2 : 0), n_bytes);
      } else {
        raw[i] = load_raw(rows[i], columns, step, own_chunk());
      }
    }
  }
  __device__ void finish(unsigned step, TensorArrays<V>& shared) const {
#pragma unroll
    for (unsigned i = 0; i < n_own; i++) {
      if (rows[i].is_async) continue;
      shared.weights[place(step, i)] = unpack_raw(rows[i], raw[i], own_chunk());
    }
  }
};

// Adds the products of one step. Vectors of a warp that are not there are left out, 16 at a time.
template <DType half, unsigned V>
__device__ void add_step(unsigned step, unsigned n, TensorArrays<V>& shared, TensorSums<V>& sums) {
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
  const unsigned first_vector = warp / 4 * (V / 2), first_row = warp % 4 * (V / 4);
  const unsigned stage = step % stages_of<V> * V * chunks_of_step;
#pragma unroll
  for (unsigned k = 0; k < chunks_of_step; k += 2) {
    uint32_t rows[V / 32][2];
#pragma unroll
    for (unsigned j = 0; j < V / 32; j += 2) {
      uint32_t four[4];
      const unsigned row = first_row + j * 8 + lane / 16 * 8 + lane % 8;
      load_matrices(shared.weights, stage + chunk_at(row, k + lane / 8 % 2), four);
      rows[j][0] = four[0], rows[j][1] = four[1], rows[j + 1][0] = four[2], rows[j + 1][1] = four[3];
    }
#pragma unroll
    for (unsigned i = 0; i < V / 32; i++) {
      if (first_vector + i * 16 >= n) continue;
      uint32_t vectors[4];
      load_matrices(shared.vectors, stage + chunk_at(first_vector + i * 16 + lane % 16, k + lane / 16), vectors);
#pragma unroll
      for (unsigned j = 0; j < V / 32; j++) multiply_add<half>(sums[i][j], vectors, rows[j][0], rows[j][1]);
    }
  }
}

// sums = the products of n vectors, 1 at least, and V rows, all of so many columns. vector(i) is a vector in 16 bits
// that begins at a multiple of 16 bytes; row(j) is a WeightRow. All threads of the block call it, once.
template <DType half, unsigned V, class VectorAt, class RowAt>
__device__ void multiply_tensor_tile(unsigned columns, unsigned n, const VectorAt& vector, const RowAt& row,
                                     TensorSums<V>& sums) {
  __shared__ TensorArrays<V> shared;
  TensorLoads<V> loads;
  loads.columns = columns, loads.n_vectors = n;
#pragma unroll
  for (unsigned i = 0; i < loads.n_own; i++) {
    const unsigned own = loads.own_row(i);
    loads.vectors[i] = vector(own < n ? own : n - 1);
    loads.rows[i] = row(own);
  }
  constexpr unsigned steps_ahead = stages_of<V> - 1;
  const unsigned n_steps = ceil_div(columns, step_columns);
  for (unsigned step = 0; step < steps_ahead; step++) {
    if (step < n_steps) {
      loads.begin(step, shared);
      loads.finish(step, shared);
    }
    commit_copies();
  }
#pragma unroll
  for (unsigned i = 0; i < V / 32; i++) {
#pragma unroll
    for (unsigned j = 0; j < V / 32; j++) {
#pragma unroll
      for (unsigned k = 0; k < 4; k++) sums[i][j][k] = 0;
    }
  }
  for (unsigned step = 0; step < n_steps; step++) {
    wait_for_copies<steps_ahead - 1>();
    __syncthreads();  // and the step before has been read, in whose place the next is brought
    const unsigned next = step + steps_ahead;
    if (next < n_steps) loads.begin(next, shared);
    commit_copies();
    add_step<half, V>(step, n, shared, sums);
    if (next < n_steps) loads.finish(next, shared);
  }
}

// visit(vector, row, indices of the sum) for each of this thread's sums whose vector there is; rows of the tile.
template <unsigned V, class Visit>
__device__ void for_each_tensor_sum(unsigned n, const Visit& visit) {
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size;
#pragma unroll
  for (unsigned i = 0; i < V / 32; i++) {
#pragma unroll
    for (unsigned j = 0; j < V / 32; j++) {
#pragma unroll
      for (unsigned k = 0; k < 4; k++) {
        const unsigned vector = warp / 4 * (V / 2) + i * 16 + k / 2 * 8 + lane / 4;
        const unsigned row = warp % 4 * (V / 4) + j * 8 + lane % 4 * 2 + k % 2;
        if (vector < n) visit(vector, row, i, j, k);
      }
    }
  }
}

}  // namespace finermoe::cuda
