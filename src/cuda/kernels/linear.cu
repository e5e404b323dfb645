// Products of activations and one matrix.
#include "cuda/kernels/panel.cuh"
#include "cuda/kernels/tile.cuh"

namespace finermoe::cuda {
namespace {

// A block computes 16 rows for N vectors.
template <unsigned N>
__global__ void __launch_bounds__(panel_threads)
    linear_of_few(const float* x, Matrix weight, uint32_t n, bool accumulate, float* out) {
  const unsigned first_row = blockIdx.x * panel_rows, first = blockIdx.y * N;
  const unsigned count = n - first < N ? n - first : N;
  const float sum = multiply_panel<N>(weight, first_row, {x + size_t{first} * weight.columns, weight.columns, count});
  const unsigned row = first_row + threadIdx.x / N, vector = threadIdx.x % N;
  if (threadIdx.x >= panel_rows * N || row >= weight.rows || vector >= count) return;
  float& to = out[size_t{first + vector} * weight.rows + row];
  to = accumulate ? to + sum : sum;
}

__global__ void __launch_bounds__(tile_threads)
    linear_of_many(const float* x, Matrix weight, uint32_t n, bool accumulate, float* out) {
  const unsigned first_row = blockIdx.x * tile_rows, first = blockIdx.y * tile_vectors;
  const unsigned count = n - first < tile_vectors ? n - first : tile_vectors;
  const float* const vectors = x + size_t{first} * weight.columns;
  TileSums sums;
  multiply_tile(
      weight, first_row, count, [&](unsigned i) { return vectors + size_t{i} * weight.columns; }, sums);
  for_each_sum(weight, first_row, count, sums, [&](unsigned row, unsigned vector, float sum) {
    float& to = out[size_t{first + vector} * weight.rows + row];
    to = accumulate ? to + sum : sum;
  });
}

}  // namespace

int enqueue_linear(void* stream, const float* x, const Matrix& weight, uint32_t n, bool accumulate,
                   bool batch_invariant, float* out) {
  const unsigned n_panels = ceil_div(weight.rows, panel_rows);
  if (n == 1) {
    return launch(stream, dim3(n_panels), panel_threads, linear_of_few<1>, x, weight, n, accumulate, out);
  }
  if (n <= most_few_rows || batch_invariant) {
    return launch(stream, dim3(n_panels, ceil_div(n, 4)), panel_threads, linear_of_few<4>, x, weight, n, accumulate,
                  out);
  }
  return launch(stream, dim3(ceil_div(weight.rows, tile_rows), ceil_div(n, tile_vectors)), tile_threads, linear_of_many,
                x, weight, n, accumulate, out);
}

}  // namespace finermoe::cuda
