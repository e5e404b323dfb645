// What comes into a KV cache, and what moves in it.
#include "cuda/kernels/cache.cuh"

#include "cuda/kernels/launch.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 128;

__device__ float with_bias(float x, const Matrix& bias, unsigned index) {
  return bias.data == nullptr ? x : x + load_number(bias.dtype, bias.data, index);
}

// A block has one head of one row: of the queries, then of the keys, then of the values.
__global__ void __launch_bounds__(n_threads) store_kv(StoreKv task) {
  __shared__ SharedArray<float, most_head_size> vector;
  const unsigned row = blockIdx.x, d = task.head_size, half = d / 2;
  const bool is_query = blockIdx.y < task.n_heads;
  const unsigned of_keys = is_query ? 0 : blockIdx.y - task.n_heads;
  const bool is_value = of_keys >= task.n_kv_heads;
  const unsigned head = is_query ? blockIdx.y : is_value ? of_keys - task.n_kv_heads : of_keys;
  const unsigned n_heads = is_query ? task.n_heads : task.n_kv_heads;
  const Matrix& bias = is_query ? task.q_bias : is_value ? task.v_bias : task.k_bias;
  float* const from = (is_query ? task.q : is_value ? task.v : task.k) + (size_t{row} * n_heads + head) * d;

  for (unsigned i = threadIdx.x; i < d; i += n_threads) vector[i] = with_bias(from[i], bias, head * d + i);
  __syncthreads();
  if (!is_value) {
    for (unsigned i = threadIdx.x; i < half; i += n_threads) {
      const float cos = task.cos[size_t{row} * half + i], sin = task.sin[size_t{row} * half + i];
      const float x = vector[i], y = vector[i + half];
      vector[i] = x * cos - y * sin;
      vector[i + half] = y * cos + x * sin;
    }
    __syncthreads();
  }
  if (is_query) {
    for (unsigned i = threadIdx.x; i < d; i += n_threads) from[i] = vector[i];
    return;
  }
  const KvView& cache = task.caches[row];
  std::byte* const to =
      cache.heads + ((size_t{task.layer} * 2 + is_value) * task.n_kv_heads + head) * cache.layout.head_bytes();
  store_vector<n_threads>(vector, cache.layout, task.positions[row], to);
}

// A block has one head, and goes through its positions in order: each is written where an earlier one was read.
__global__ void __launch_bounds__(n_threads) move_down(MoveDown task) {
  __shared__ SharedArray<float, most_head_size> vector;
  const KvLayout& layout = task.cache.layout;
  const unsigned d = static_cast<unsigned>(layout.head_size), half = d / 2;
  std::byte* const head = task.cache.heads + blockIdx.x * layout.head_bytes();
  const bool is_key = blockIdx.x / task.n_kv_heads % 2 == 0;
  for (unsigned from = task.begin; from < task.end; from++) {
    if (!is_key) {
      move_vector<n_threads>(layout, from, from - task.by, head);
      continue;
    }
    for (unsigned i = threadIdx.x; i < d; i += n_threads) vector[i] = load_cached(layout, head, from, i);
    __syncthreads();
    for (unsigned i = threadIdx.x; i < half; i += n_threads) {
      const float x = vector[i], y = vector[i + half];
      vector[i] = x * task.cos[i] + y * task.sin[i];
      vector[i + half] = y * task.cos[i] - x * task.sin[i];
    }
    __syncthreads();
    store_vector<n_threads>(vector, layout, from - task.by, head);
    __syncthreads();
  }
}

}  // namespace

int enqueue_store_kv(void* stream, const StoreKv& task) {
  return launch(stream, dim3(task.n, task.n_heads + 2 * task.n_kv_heads), n_threads, store_kv, task);
}

int enqueue_move_down(void* stream, const MoveDown& task) {
  return launch(stream, task.n_layers * 2 * task.n_kv_heads, n_threads, move_down, task);
}

}  // namespace finermoe::cuda
