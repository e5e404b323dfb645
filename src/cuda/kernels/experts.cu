// Feed-forward networks: routed experts, each assignment with the matrices that its expert has, and one FFN for all
// rows.
#include "cuda/kernels/panel.cuh"
#include "cuda/kernels/tensor_tile.cuh"
#include "cuda/kernels/tile.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned group_threads = 1024, combine_threads = 256;

__device__ float activate(float gate, float up, float factor) { return factor * (gate * sigmoid(gate)) * up; }

// The vectors of a tile of a task: of experts wide ones where an average expert fills half of it.
constexpr unsigned vectors_of_tile(const FfnTask& task) {
  if (task.operand == DType::f32) return tile_vectors;
  if (task.experts == nullptr) return tensor_tile_of(task.n, 2 * task.width);
  return task.n_assignments() < wide_tile / 2 * task.n_experts ? narrow_tile : wide_tile;
}

__device__ bool is_left_out(const Ffn& ffn) { return ffn.gate.data == nullptr; }

// Exclusive prefix sums of two numbers over a warp.
struct Pair {
  unsigned first, second;
};
__device__ Pair sums_before(Pair own) {
  const unsigned lane = threadIdx.x % warp_size;
  Pair sums = own;
  for (unsigned distance = 1; distance < warp_size; distance *= 2) {
    const unsigned first = __shfl_up_sync(all_lanes, sums.first, distance);
    const unsigned second = __shfl_up_sync(all_lanes, sums.second, distance);
    if (lane >= distance) sums.first += first, sums.second += second;
  }
  return {sums.first - own.first, sums.second - own.second};
}

// visit(assignment, how many before it) for each of an expert's assignments, by the lanes of a warp that looks at 32 at
// a time; returns how many there are.
template <class Visit>
__device__ unsigned for_each_of_expert(const FfnTask& task, unsigned expert, const Visit& visit) {
  const unsigned n = task.n_assignments(), lane = threadIdx.x % warp_size;
  unsigned count = 0;
#pragma unroll 4
  for (unsigned first = 0; first < n; first += warp_size) {
    const unsigned i = first + lane;
    const bool is_of_it = i < n && task.chosen[i] == static_cast<int32_t>(expert);
    const unsigned lanes = __ballot_sync(all_lanes, is_of_it);
    if (is_of_it) visit(i, count + __popc(lanes & ((1u << lane) - 1)));
    count += __popc(lanes);
  }
  return count;
}

// One block. A warp counts an expert's assignments, then the first warp says where each expert's begin, then the warp
// puts them there, tokens ascending.
__global__ void __launch_bounds__(group_threads) group_by_expert(FfnTask task) {
  const unsigned n = task.n_assignments(), thread = threadIdx.x, vectors = vectors_of_tile(task);
  uint32_t* const begins = task.expert_begins;
  uint32_t* const tile_begins = task.expert_begins + task.n_experts;
  for (unsigned i = thread; i < n; i += group_threads) task.places[i] = -1;
  const unsigned first_expert = thread / warp_size, lane = thread % warp_size;
  for (unsigned expert = first_expert; expert < task.n_experts; expert += group_threads / warp_size) {
    const bool is_left = is_left_out(task.experts[expert]);
    const unsigned count = is_left ? 0 : for_each_of_expert(task, expert, [](unsigned, unsigned) {});
    if (lane == 0) begins[expert] = count;
  }
  __syncthreads();
  if (thread < warp_size) {
    Pair before{0, 0};
    for (unsigned first = 0; first < task.n_experts; first += warp_size) {
      const unsigned expert = first + thread;
      const unsigned count = expert < task.n_experts ? begins[expert] : 0;
      const Pair own{count, ceil_div(count, vectors)};
      const Pair sums = sums_before(own);
      if (expert < task.n_experts) {
        begins[expert] = before.first + sums.first;
        tile_begins[expert] = before.second + sums.second;
      }
      before.first += __shfl_sync(all_lanes, sums.first + own.first, warp_size - 1);
      before.second += __shfl_sync(all_lanes, sums.second + own.second, warp_size - 1);
    }
    if (thread == 0) *task.n_tiles = before.second;
  }
  __syncthreads();
  for (unsigned expert = first_expert; expert < task.n_experts; expert += group_threads / warp_size) {
    if (is_left_out(task.experts[expert])) continue;
    const unsigned begin = begins[expert];
    const unsigned count = for_each_of_expert(task, expert, [&](unsigned i, unsigned before) {
      task.assignments[begin + before] = {i / task.experts_per_token, task.weights[i]};
      task.places[i] = static_cast<int32_t>(begin + before);
    });
    Tile* const tiles = task.tiles + tile_begins[expert];
    for (unsigned tile = lane; tile * vectors < count; tile += warp_size) {
      const unsigned first = tile * vectors;
      tiles[tile] = {expert, begin + first, count - first < vectors ? count - first : vectors};
    }
  }
}

// Few rows: a block computes 16 columns of one assignment, or of up to N rows of one FFN. The second bound, blocks that
// a multiprocessor has room for, stands here and below since nvcc spills registers for some architectures without it.
template <unsigned N>
__global__ void __launch_bounds__(panel_threads, N == 1 ? 4 : 0) activate_few(FfnTask task) {
  const unsigned first_row = blockIdx.x * panel_rows, first = blockIdx.y * N;
  const bool is_routed = task.experts != nullptr;
  const Ffn& ffn = is_routed ? task.experts[task.chosen[first]] : task.single;
  if (is_left_out(ffn)) return;
  const unsigned token = first / task.experts_per_token, count = task.n_assignments() - first;
  const Vectors x{task.x + size_t{token} * task.hidden, task.hidden, count < N ? count : N};
  const float gate = multiply_panel<N>(ffn.gate, first_row, x);
  __syncthreads();
  const float up = multiply_panel<N>(ffn.up, first_row, x);
  const unsigned row = first_row + threadIdx.x / N, at = threadIdx.x % N;
  if (threadIdx.x >= panel_rows * N || row >= task.width || at >= x.n) return;
  const float factor = task.weights == nullptr ? 1 : task.weights[first + at];
  task.activated[size_t{first + at} * task.width + row] = activate(gate, up, factor);
}

// A block computes 16 columns of one component of one row: the sum over the component's experts, in their order.
__global__ void __launch_bounds__(panel_threads, 2) project_few(FfnTask task) {
  const unsigned first_row = blockIdx.x * panel_rows, component = blockIdx.y, token = blockIdx.z;
  const unsigned slots = task.experts_per_token / (task.hidden / task.out_width);
  const unsigned first_slot = token * task.experts_per_token + component * slots;
  const unsigned row = first_row + threadIdx.x;
  const bool has_row = threadIdx.x < panel_rows && row < task.out_width;
  float* const to = task.out + size_t{token} * task.hidden + component * task.out_width + row;
  float sum = has_row && task.accumulate ? *to : 0;
  for (unsigned slot = first_slot; slot < first_slot + slots; slot++) {
    const Ffn& ffn = task.experts[task.chosen[slot]];
    if (is_left_out(ffn)) continue;
    if (slot > first_slot) __syncthreads();
    sum += multiply_panel<1>(ffn.down, first_row, {task.activated + size_t{slot} * task.width, task.width, 1});
  }
  if (has_row) *to = sum;
}

// The block's tile of up to so many vectors, which is empty if the route has fewer tiles.
__device__ Tile own_tile(const FfnTask& task, unsigned vectors) {
  if (task.experts != nullptr) return blockIdx.x < *task.n_tiles ? task.tiles[blockIdx.x] : Tile{};
  const unsigned begin = blockIdx.x * vectors;
  return {0, begin, task.n - begin < vectors ? task.n - begin : vectors};
}
__device__ float factor_of(const FfnTask& task, unsigned assignment) {
  if (task.experts != nullptr) return task.assignments[assignment].weight;
  return task.weights == nullptr ? 1 : task.weights[assignment];
}

// Many rows: a block takes a tile of assignments and 64 columns.
__global__ void __launch_bounds__(tile_threads) activate_many(FfnTask task) {
  const bool is_routed = task.experts != nullptr;
  const Tile tile = own_tile(task, tile_vectors);
  if (tile.count == 0) return;
  const Ffn& ffn = is_routed ? task.experts[tile.expert] : task.single;
  const unsigned first_row = blockIdx.y * tile_rows;
  const auto vector = [&](unsigned i) {
    const unsigned token = is_routed ? task.assignments[tile.begin + i].token : tile.begin + i;
    return task.x + size_t{token} * task.hidden;
  };
  TileSums gate, up;
  multiply_tile(ffn.gate, first_row, tile.count, vector, gate);
  multiply_tile(ffn.up, first_row, tile.count, vector, up);
#pragma unroll
  for (unsigned i = 0; i < rows_of_thread; i++) {
#pragma unroll
    for (unsigned j = 0; j < vectors_of_thread; j++) gate[i][j] = activate(gate[i][j], up[i][j], 1);
  }
  for_each_sum(ffn.gate, first_row, tile.count, gate, [&](unsigned row, unsigned at, float product) {
    const unsigned assignment = tile.begin + at;
    task.activated[size_t{assignment} * task.width + row] = factor_of(task, assignment) * product;
  });
}

__global__ void __launch_bounds__(tile_threads) project_many(FfnTask task) {
  if (blockIdx.x >= *task.n_tiles) return;
  const Tile tile = task.tiles[blockIdx.x];
  const Matrix& down = task.experts[tile.expert].down;
  const unsigned first_row = blockIdx.y * tile_rows;
  const auto vector = [&](unsigned i) { return task.activated + size_t{tile.begin + i} * task.width; };
  TileSums sums;
  multiply_tile(down, first_row, tile.count, vector, sums);
  for_each_sum(down, first_row, tile.count, sums, [&](unsigned row, unsigned at, float sum) {
    task.products[size_t{tile.begin + at} * task.out_width + row] = sum;
  });
}

// The same two on tensor cores. Gate and up share a tile, eight rows of each in turns, so that a thread has both sums
// of what it activates.
template <DType half, unsigned V>
__global__ void __launch_bounds__(tensor_threads, 2) activate_on_tensors(FfnTask task) {
  const bool is_routed = task.experts != nullptr;
  const Tile tile = own_tile(task, V);
  if (tile.count == 0) return;
  const Ffn& ffn = is_routed ? task.experts[tile.expert] : task.single;
  const unsigned first_row = blockIdx.y * (V / 2), width = task.width, hidden = operand_stride(task.hidden);
  const auto vector = [&](unsigned i) {
    const unsigned token = is_routed ? task.assignments[tile.begin + i].token : tile.begin + i;
    return task.operands + size_t{token} * hidden;
  };
  const auto row = [&](unsigned i) {
    return weight_row(i / 8 % 2 == 0 ? ffn.gate : ffn.up, first_row + i / 16 * 8 + i % 8);
  };
  TensorSums<V> sums;
  multiply_tensor_tile<half, V>(task.hidden, tile.count, vector, row, sums);
  auto* const pairs = reinterpret_cast<uint32_t*>(task.activated);
  for_each_tensor_sum<V>(tile.count, [&](unsigned at, unsigned i_row, unsigned i, unsigned j, unsigned k) {
    const unsigned column = first_row + i_row / 16 * 8 + i_row % 8;
    if (j % 2 != 0 || k % 2 != 0 || column >= width) return;  // the others are taken with these
    const unsigned assignment = tile.begin + at;
    const float factor = factor_of(task, assignment);
    float two[2];
#pragma unroll
    for (unsigned c = 0; c < 2; c++) {
      two[c] = within_range<half>(factor * activate(sums[i][j][k + c], sums[i][j + 1][k + c], 1));
    }
    pairs[(size_t{assignment} * operand_stride(width) + column) / 2] = pack_pair<half>(two[0], two[1]);
  });
}

template <DType half, unsigned V>
__global__ void __launch_bounds__(tensor_threads, 2) project_on_tensors(FfnTask task) {
  if (blockIdx.x >= *task.n_tiles) return;
  const Tile tile = task.tiles[blockIdx.x];
  const Matrix& down = task.experts[tile.expert].down;
  const unsigned first_row = blockIdx.y * V;
  const auto* const activated = reinterpret_cast<const uint16_t*>(task.activated);
  TensorSums<V> sums;
  multiply_tensor_tile<half, V>(
      task.width, tile.count,
      [&](unsigned i) { return activated + size_t{tile.begin + i} * operand_stride(task.width); },
      [&](unsigned i) { return weight_row(down, first_row + i); }, sums);
  for_each_tensor_sum<V>(tile.count, [&](unsigned at, unsigned row, unsigned i, unsigned j, unsigned k) {
    if (first_row + row >= task.out_width) return;
    task.products[size_t{tile.begin + at} * task.out_width + first_row + row] = sums[i][j][k];
  });
}

// A thread activates two columns of a row; a column that is beyond the last becomes 0.
template <DType half>
__global__ void __launch_bounds__(combine_threads) combine_gate(FfnTask task, const float* gate, const float* up) {
  const unsigned row = blockIdx.x, column = 2 * (blockIdx.y * combine_threads + threadIdx.x);
  const unsigned width = task.width, stride = operand_stride(width);
  if (column >= stride) return;
  float two[2] = {};
#pragma unroll
  for (unsigned c = 0; c < 2; c++) {
    const size_t at = size_t{row} * width + column + c;
    if (column + c < width) two[c] = within_range<half>(factor_of(task, row) * activate(gate[at], up[at], 1));
  }
  auto* const pairs = reinterpret_cast<uint32_t*>(task.operands);
  pairs[(size_t{row} * stride + column) / 2] = pack_pair<half>(two[0], two[1]);
}

// A thread adds the products of one element's experts, in their order.
__global__ void __launch_bounds__(combine_threads) combine(FfnTask task) {
  const unsigned token = blockIdx.x, at = blockIdx.y * combine_threads + threadIdx.x;
  if (at >= task.hidden) return;
  const unsigned component = at / task.out_width, column = at % task.out_width;
  const unsigned slots = task.experts_per_token / (task.hidden / task.out_width);
  float& to = task.out[size_t{token} * task.hidden + at];
  float sum = task.accumulate ? to : 0;
  for (unsigned slot = 0; slot < slots; slot++) {
    const int32_t place = task.places[token * task.experts_per_token + component * slots + slot];
    if (place >= 0) sum += task.products[static_cast<size_t>(place) * task.out_width + column];
  }
  to = sum;
}

// Tiles of a pass, those that a route may leave out included.
unsigned grid_of_tiles(const FfnTask& task) {
  const unsigned vectors = vectors_of_tile(task);
  return task.experts == nullptr ? ceil_div(task.n, vectors)
                                 : tiles_at_most(task.n_assignments(), task.n_experts, vectors);
}

template <DType half>
int activate_tensors(void* stream, const FfnTask& task) {
  const int code = enqueue_round(stream, task.x, task.n, task.hidden, half, task.operands);
  if (code != 0) return code;
  const unsigned tile = vectors_of_tile(task);
  const auto kernel = tile == wide_tile ? activate_on_tensors<half, wide_tile> : activate_on_tensors<half, narrow_tile>;
  return launch(stream, dim3(grid_of_tiles(task), ceil_div(task.width, tile / 2)), tensor_threads, kernel, task);
}

int project_tiles(void* stream, const FfnTask& task) {
  const unsigned n_tiles = grid_of_tiles(task), tile = vectors_of_tile(task);
  if (task.operand == DType::f32) {
    return launch(stream, dim3(n_tiles, ceil_div(task.out_width, tile_rows)), tile_threads, project_many, task);
  }
  const bool is_wide = tile == wide_tile;
  const auto kernel =
      task.operand == DType::bf16
          ? (is_wide ? project_on_tensors<DType::bf16, wide_tile> : project_on_tensors<DType::bf16, narrow_tile>)
          : (is_wide ? project_on_tensors<DType::f16, wide_tile> : project_on_tensors<DType::f16, narrow_tile>);
  return launch(stream, dim3(n_tiles, ceil_div(task.out_width, tile)), tensor_threads, kernel, task);
}

}  // namespace

int enqueue_group(void* stream, const FfnTask& task) { return launch(stream, 1, group_threads, group_by_expert, task); }

int enqueue_activate(void* stream, const FfnTask& task) {
  const unsigned n_panels = ceil_div(task.width, panel_rows), n = task.n_assignments();
  if (task.n > most_few_rows) {
    if (task.operand == DType::bf16) return activate_tensors<DType::bf16>(stream, task);
    if (task.operand == DType::f16) return activate_tensors<DType::f16>(stream, task);
    return launch(stream, dim3(grid_of_tiles(task), ceil_div(task.width, tile_rows)), tile_threads, activate_many,
                  task);
  }
  if (task.experts != nullptr || n == 1) {
    return launch(stream, dim3(n_panels, n), panel_threads, activate_few<1>, task);
  }
  return launch(stream, dim3(n_panels, ceil_div(n, 4)), panel_threads, activate_few<4>, task);
}

int enqueue_combine_gate(void* stream, const FfnTask& task, const float* gate, const float* up) {
  const auto kernel = task.operand == DType::bf16 ? combine_gate<DType::bf16> : combine_gate<DType::f16>;
  const dim3 grid(task.n, ceil_div(operand_stride(task.width), 2 * combine_threads));
  return launch(stream, grid, combine_threads, kernel, task, gate, up);
}

int enqueue_project(void* stream, const FfnTask& task) {
  if (task.experts == nullptr) {
    return enqueue_linear(stream, {.x = task.activated,
                                   .weight = task.single.down,
                                   .n = task.n,
                                   .accumulate = task.accumulate,
                                   .batch_invariant = false,
                                   .operands = nullptr,
                                   .out = task.out});
  }
  if (task.n <= most_few_rows) {
    const dim3 grid(ceil_div(task.out_width, panel_rows), task.hidden / task.out_width, task.n);
    return launch(stream, grid, panel_threads, project_few, task);
  }
  const int code = project_tiles(stream, task);
  if (code != 0) return code;
  return launch(stream, dim3(task.n, ceil_div(task.hidden, combine_threads)), combine_threads, combine, task);
}

}  // namespace finermoe::cuda
