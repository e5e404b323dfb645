// The product of a tile: 64 rows of a matrix and up to 32 vectors, by one block of threads, both brought to shared
// memory 32 columns at a time, as float32.
#pragma once

#include "cuda/kernels/launch.cuh"
#include "cuda/kernels/numbers.cuh"
#include "cuda/kernels/shared_array.cuh"

namespace finermoe::cuda {

constexpr unsigned tile_rows = 64, tile_columns = 32, tile_threads = 256;
constexpr unsigned tile_stride = tile_columns + 1;  // rows lie in different banks
// A thread has rows lane + 16 i and vectors group + 16 j, where lane = thread % 16 and group = thread / 16.
constexpr unsigned rows_of_thread = tile_rows / 16, vectors_of_thread = tile_vectors / 16;
using TileSums = float[rows_of_thread][vectors_of_thread];

// sums = the products of rows first_row … and n vectors; vector(i) is a pointer to [columns]. All threads call it.
template <class VectorAt>
__device__ void multiply_tile(const Matrix& matrix, unsigned first_row, unsigned n, const VectorAt& vector,
                              TileSums& sums) {
  __shared__ SharedArray<float, tile_rows * tile_stride> weights;
  __shared__ SharedArray<float, tile_vectors * tile_stride> activations;
  const unsigned thread = threadIdx.x, lane = thread % 16, group = thread / 16;
#pragma unroll
  for (unsigned i = 0; i < rows_of_thread; i++) {
#pragma unroll
    for (unsigned j = 0; j < vectors_of_thread; j++) sums[i][j] = 0;
  }
  // Who brings what: 8 threads a row, 4 columns each.
  const unsigned own_row = thread / 8, own_column = thread % 8 * 4;
  for (unsigned begin = 0; begin < matrix.columns; begin += tile_columns) {
    __syncthreads();  // the columns before have been read
    for (unsigned r = own_row; r < tile_rows; r += tile_threads / 8) {
      float four[4] = {};
      const unsigned row = first_row + r;
      if (row < matrix.rows && begin + own_column < matrix.columns) {
        load_weights(matrix, row, begin + own_column, four);
      }
#pragma unroll
      for (unsigned i = 0; i < 4; i++) weights[r * tile_stride + own_column + i] = four[i];
    }
    if (own_row < n) {
      float four[4];
      load_activations(vector(own_row), begin + own_column, matrix.columns, four);
#pragma unroll
      for (unsigned i = 0; i < 4; i++) activations[own_row * tile_stride + own_column + i] = four[i];
    }
    __syncthreads();
    for (unsigned c = 0; c < tile_columns; c++) {
      float of_rows[rows_of_thread];
#pragma unroll
      for (unsigned i = 0; i < rows_of_thread; i++) of_rows[i] = weights[(lane + 16 * i) * tile_stride + c];
#pragma unroll
      for (unsigned j = 0; j < vectors_of_thread; j++) {
        if (group + 16 * j >= n) continue;
        const float x = activations[(group + 16 * j) * tile_stride + c];
#pragma unroll
        for (unsigned i = 0; i < rows_of_thread; i++) sums[i][j] = fmaf(of_rows[i], x, sums[i][j]);
      }
    }
  }
}

// visit(row of the matrix, vector, sum) for each sum of this thread that exists.
template <class Visit>
__device__ void for_each_sum(const Matrix& matrix, unsigned first_row, unsigned n, const TileSums& sums,
                             const Visit& visit) {
  const unsigned lane = threadIdx.x % 16, group = threadIdx.x / 16;
#pragma unroll
  for (unsigned j = 0; j < vectors_of_thread; j++) {
#pragma unroll
    for (unsigned i = 0; i < rows_of_thread; i++) {
      const unsigned row = first_row + lane + 16 * i, at = group + 16 * j;
      if (row < matrix.rows && at < n) visit(row, at, sums[i][j]);
    }
  }
}

}  // namespace finermoe::cuda
