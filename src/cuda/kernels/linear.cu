// Products of activations and one matrix.
#include "cuda/kernels/panel.cuh"
#include "cuda/kernels/tensor_tile.cuh"
#include "cuda/kernels/tile.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned round_threads = 128;

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

// Products of the same vectors in 16 bits with matrices of as many columns, in one launch: few rows alone make few
// blocks.
struct Group {
  const uint16_t* x;
  uint32_t n, n_matrices;
  bool accumulate;
  Matrix weights[most_products];
  float* outs[most_products];
  uint32_t first_tiles[most_products];  // of the rows of each
};

// On tensor cores.
template <DType half, unsigned V>
__global__ void __launch_bounds__(tensor_threads, 2) linear_of_tensors(Group group) {
  Matrix weight = group.weights[0];
  float* out = group.outs[0];
  unsigned first_row = blockIdx.x * V;
#pragma unroll
  for (unsigned m = 1; m < most_products; m++) {
    if (m >= group.n_matrices || blockIdx.x < group.first_tiles[m]) continue;
    weight = group.weights[m], out = group.outs[m];
    first_row = (blockIdx.x - group.first_tiles[m]) * V;
  }
  const unsigned first = blockIdx.y * V, stride = operand_stride(weight.columns);
  const unsigned count = group.n - first < V ? group.n - first : V;
  TensorSums<V> sums;
  multiply_tensor_tile<half, V>(
      weight.columns, count, [&](unsigned i) { return group.x + size_t{first + i} * stride; },
      [&](unsigned i) { return weight_row(weight, first_row + i); }, sums);
  for_each_tensor_sum<V>(count, [&](unsigned vector, unsigned row, unsigned i, unsigned j, unsigned k) {
    if (first_row + row >= weight.rows) return;
    float& to = out[size_t{first + vector} * weight.rows + first_row + row];
    to = group.accumulate ? to + sums[i][j][k] : sums[i][j][k];
  });
}

// A thread rounds 8 columns; those beyond the last become zeros.
template <DType half>
__global__ void __launch_bounds__(round_threads) round_rows(const float* x, uint32_t columns, uint16_t* out) {
  const unsigned chunk = blockIdx.y * round_threads + threadIdx.x, row = blockIdx.x;
  const unsigned n_chunks = operand_stride(columns) / chunk_columns;
  if (chunk >= n_chunks) return;
  uint32_t pairs[4];
#pragma unroll
  for (unsigned i = 0; i < chunk_columns; i += 4) {
    float four[4];
    load_activations(x + size_t{row} * columns, chunk * chunk_columns + i, columns, four);
#pragma unroll
    for (unsigned c = 0; c < 4; c++) four[c] = within_range<half>(four[c]);
    pairs[i / 2] = pack_pair<half>(four[0], four[1]);
    pairs[i / 2 + 1] = pack_pair<half>(four[2], four[3]);
  }
  reinterpret_cast<uint4*>(out)[size_t{row} * n_chunks + chunk] = {pairs[0], pairs[1], pairs[2], pairs[3]};
}

template <DType half>
int launch_tensors(void* stream, unsigned tile, unsigned n_tiles, const Group& group) {
  const auto kernel = tile == wide_tile ? linear_of_tensors<half, wide_tile> : linear_of_tensors<half, narrow_tile>;
  return launch(stream, dim3(n_tiles, ceil_div(group.n, tile)), tensor_threads, kernel, group);
}

}  // namespace

int enqueue_round(void* stream, const float* x, uint32_t n, uint32_t columns, DType type, uint16_t* out) {
  const dim3 grid(n, ceil_div(operand_stride(columns), round_threads * chunk_columns));
  return launch(stream, grid, round_threads, type == DType::bf16 ? round_rows<DType::bf16> : round_rows<DType::f16>, x,
                columns, out);
}

int enqueue_rounded_linear(void* stream, const Linear* tasks, uint32_t n_tasks) {
  Group group{};
  group.x = tasks[0].operands, group.n = tasks[0].n, group.accumulate = tasks[0].accumulate;
  group.n_matrices = n_tasks;
  uint32_t n_rows = 0, n_tiles = 0;
  for (uint32_t i = 0; i < n_tasks; i++) n_rows += tasks[i].weight.rows;
  const unsigned tile = tensor_tile_of(group.n, n_rows);
  for (uint32_t i = 0; i < n_tasks; i++) {
    group.weights[i] = tasks[i].weight, group.outs[i] = tasks[i].out, group.first_tiles[i] = n_tiles;
    n_tiles += ceil_div(tasks[i].weight.rows, tile);
  }
  return operand_type(group.weights[0].dtype) == DType::bf16 ? launch_tensors<DType::bf16>(stream, tile, n_tiles, group)
                                                             : launch_tensors<DType::f16>(stream, tile, n_tiles, group);
}

int enqueue_linear(void* stream, const Linear& task) {
  const Matrix& weight = task.weight;
  const unsigned n_panels = ceil_div(weight.rows, panel_rows);
  if (task.n <= most_few_rows || task.batch_invariant) {
    const auto kernel = task.n == 1 ? linear_of_few<1> : linear_of_few<4>;
    const dim3 grid(n_panels, task.n == 1 ? 1 : ceil_div(task.n, 4));
    return launch(stream, grid, panel_threads, kernel, task.x, weight, task.n, task.accumulate, task.out);
  }
  const DType operand = operand_type(weight.dtype);
  if (task.operands != nullptr && operand != DType::f32) {
    const int code = enqueue_round(stream, task.x, task.n, weight.columns, operand, task.operands);
    return code != 0 ? code : enqueue_rounded_linear(stream, &task, 1);
  }
  return launch(stream, dim3(ceil_div(weight.rows, tile_rows), ceil_div(task.n, tile_vectors)), tile_threads,
                linear_of_many, task.x, weight, task.n, task.accumulate, task.out);
}

}  // namespace finermoe::cuda
