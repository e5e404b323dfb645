// Causal attention over the cache, with a running softmax over tiles of positions.
#include "cuda/kernels/cache.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 128, n_warps = n_threads / warp_size;

// How a block divides its work for heads of up to D columns. Scores: a lane has a position of the tile, a warp every
// fourth query. Sums of values: a thread has one column, or two, of some of the queries.
template <unsigned D>
struct Shape {
  static constexpr unsigned positions = D > 128 ? 16 : 32;  // of a tile
  static constexpr unsigned stride = D + 1;                 // vectors lie in different banks
  static constexpr unsigned columns_of_thread = D > n_threads ? D / n_threads : 1;
  static constexpr unsigned query_groups = D < n_threads ? n_threads / D : 1;
  static constexpr unsigned queries_of_thread = attention_queries / query_groups;
};

template <unsigned D>
struct Arrays {
  SharedArray<float, attention_queries * D> queries;
  SharedArray<float, Shape<D>::positions * Shape<D>::stride> vectors;  // keys, then values, of a tile
  SharedArray<float, attention_queries * Shape<D>::positions> probabilities;
  SharedArray<float, attention_queries> maxima, sums, factors;
};

// What one block computes: some queries, and the positions [begin, end).
struct Work {
  unsigned first_query, n_queries;  // among [rows of the block][heads of the key-value head]
  unsigned begin, end;
};

// Brings the keys or values of positions [from, from + n) to shared memory.
template <unsigned D>
__device__ void bring(const KvLayout& layout, const std::byte* head, unsigned from, unsigned n, Arrays<D>& shared) {
  const unsigned d = static_cast<unsigned>(layout.head_size);
  const unsigned element = layout.dtype == DType::q8 ? 1 : static_cast<unsigned>(size_of(layout.dtype));
  const unsigned per_load = 16 / element;
  if (d % per_load == 0) {  // then every vector begins at a multiple of 16 bytes
    const unsigned loads = d / per_load;
    for (unsigned i = threadIdx.x; i < n * loads; i += n_threads) {
      const unsigned p = i / loads, first = i % loads * per_load;
      const uint4 bits = load_128(head + (from + p) * layout.vector_bytes() + first * element);
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
      float scale = 1;
      if (layout.dtype == DType::q8) {
        const std::byte* const scales = head + layout.scales_at() + (from + p) * layout.scale_bytes();
        scale = from_f16(__ldg(reinterpret_cast<const unsigned short*>(scales) + first / block_columns));
      }
#pragma unroll
      for (unsigned w = 0; w < 4; w++) {
        float values[4];
        const unsigned count = 4 / element, at = p * Shape<D>::stride + first + w * count;
        if (layout.dtype == DType::f32) values[0] = __uint_as_float(words[w]);
        if (layout.dtype == DType::f16) unpack_pair<DType::f16>(words[w], values);
        if (layout.dtype == DType::bf16) unpack_pair<DType::bf16>(words[w], values);
        if (layout.dtype == DType::q8) {
          q8_values_of(words[w] ^ 0x80808080u, values);
#pragma unroll
          for (unsigned c = 0; c < 4; c++) values[c] *= scale;
        }
#pragma unroll
        for (unsigned c = 0; c < 4; c++) {
          if (c < count) shared.vectors[at + c] = values[c];
        }
      }
    }
    return;
  }
  for (unsigned i = threadIdx.x; i < n * d; i += n_threads) {
    shared.vectors[i / d * Shape<D>::stride + i % d] = load_cached(layout, head, from + i / d, i % d);
  }
}

// Probabilities of a tile relative to the running maximum, and factors that rescale the sums so far.
template <unsigned D>
__device__ void score(const Attend& task, const Work& work, const AttentionRows& rows, unsigned from, unsigned n,
                      Arrays<D>& shared) {
  constexpr unsigned tile = Shape<D>::positions;
  const unsigned warp = threadIdx.x / warp_size, lane = threadIdx.x % warp_size, d = task.head_size;
  const unsigned group = task.n_heads / task.n_kv_heads;
  for (unsigned q = warp; q < work.n_queries; q += n_warps) {
    const unsigned position = task.positions[rows.first + (work.first_query + q) / group], at = from + lane;
    const bool is_seen = lane < n && at <= position && (task.window == 0 || at + task.window > position);
    float dot = 0;
    if (is_seen) {
      for (unsigned c = 0; c < d; c++) {
        dot = fmaf(shared.queries[q * D + c], shared.vectors[lane * Shape<D>::stride + c], dot);
      }
    }
    const float scaled = is_seen ? dot * task.scale : -INFINITY;
    const float before = shared.maxima[q], largest = fmaxf(before, warp_max(scaled));
    const float probability = is_seen ? expf(scaled - largest) : 0;
    const float sum = warp_sum(probability);
    if (lane < tile) shared.probabilities[q * tile + lane] = probability;
    if (lane == 0) {
      const float factor = largest == before ? 1 : expf(before - largest);
      shared.factors[q] = factor;
      shared.sums[q] = shared.sums[q] * factor + sum;
      shared.maxima[q] = largest;
    }
  }
}

template <unsigned D>
using ThreadSums = float[Shape<D>::queries_of_thread][Shape<D>::columns_of_thread];

template <unsigned D>
__device__ void add_values(const Work& work, unsigned n, unsigned d, Arrays<D>& shared, ThreadSums<D>& sums) {
  constexpr unsigned tile = Shape<D>::positions, n_queries = Shape<D>::queries_of_thread;
  const unsigned first_query = threadIdx.x / D * n_queries, column = threadIdx.x % D;
#pragma unroll
  for (unsigned q = 0; q < n_queries; q++) {
    if (first_query + q >= work.n_queries) continue;
    const float factor = shared.factors[first_query + q];
#pragma unroll
    for (unsigned c = 0; c < Shape<D>::columns_of_thread; c++) sums[q][c] *= factor;
  }
  for (unsigned p = 0; p < n; p++) {
    float values[Shape<D>::columns_of_thread];
#pragma unroll
    for (unsigned c = 0; c < Shape<D>::columns_of_thread; c++) {
      values[c] = column + c * n_threads < d ? shared.vectors[p * Shape<D>::stride + column + c * n_threads] : 0.0f;
    }
#pragma unroll
    for (unsigned q = 0; q < n_queries; q++) {
      if (first_query + q >= work.n_queries) continue;
      const float probability = shared.probabilities[(first_query + q) * tile + p];
      if (probability == 0) continue;  // a position that is not seen may hold what is not finite
#pragma unroll
      for (unsigned c = 0; c < Shape<D>::columns_of_thread; c++) sums[q][c] = fmaf(probability, values[c], sums[q][c]);
    }
  }
}

// The queries and positions of one block.
__device__ Work work_of(const Attend& task, const AttentionRows& rows, unsigned split) {
  const unsigned group = task.n_heads / task.n_kv_heads, per_row = ceil_div(group, attention_queries);
  const unsigned part = blockIdx.y % per_row;  // of the queries of one row, where there are too many
  Work work{part * attention_queries, 0, 0, 0};
  const unsigned n_queries = rows.count * group - work.first_query;
  work.n_queries = n_queries < attention_queries ? n_queries : attention_queries;
  const unsigned first = task.positions[rows.first], last = task.positions[rows.first + rows.count - 1];
  const unsigned begin = task.window == 0 || first < task.window ? 0 : first + 1 - task.window;
  const unsigned n = last + 1 - begin, wanted = splits_of(n);
  const unsigned n_splits = wanted < task.most_splits ? wanted : task.most_splits;
  const unsigned positions = ceil_div(n, n_splits);
  work.begin = begin + split * positions;
  const unsigned end = work.begin + positions;
  work.end = end < last + 1 ? end : last + 1;
  if (split >= n_splits || work.begin > last) work.begin = work.end = 0;  // nothing
  return work;
}

template <unsigned D>
__device__ void write(const Attend& task, const Work& work, const AttentionRows& rows, unsigned kv_head, unsigned split,
                      Arrays<D>& shared, const ThreadSums<D>& sums) {
  constexpr unsigned n_queries = Shape<D>::queries_of_thread;
  const unsigned group = task.n_heads / task.n_kv_heads, d = task.head_size;
  const unsigned first_query = threadIdx.x / D * n_queries, column = threadIdx.x % D;
#pragma unroll
  for (unsigned i = 0; i < n_queries; i++) {
    const unsigned q = first_query + i;
    if (q >= work.n_queries) continue;
    const unsigned at = work.first_query + q, row = rows.first + at / group, head = kv_head * group + at % group;
    const size_t vector = size_t{row} * task.n_heads + head;
    const bool is_whole = task.most_splits == 1;
    float* const to = is_whole ? task.out + vector * d : task.partial_out + (vector * task.most_splits + split) * d;
    const float sum = is_whole ? shared.sums[q] : 1.0f;
#pragma unroll
    for (unsigned c = 0; c < Shape<D>::columns_of_thread; c++) {
      if (column + c * n_threads < d) to[column + c * n_threads] = sums[i][c] / sum;
    }
    if (is_whole || column != 0) continue;
    task.partial_max[vector * task.most_splits + split] = shared.maxima[q];
    task.partial_sum[vector * task.most_splits + split] = shared.sums[q];
  }
}

// Grid: blocks of rows; key-value heads and parts of their queries; splits.
template <unsigned D>
__global__ void __launch_bounds__(n_threads) attend(Attend task) {
  __shared__ Arrays<D> shared;
  const AttentionRows rows = task.rows[blockIdx.x];
  const unsigned group = task.n_heads / task.n_kv_heads, d = task.head_size;
  const unsigned kv_head = blockIdx.y / ceil_div(group, attention_queries), split = blockIdx.z;
  const Work work = work_of(task, rows, split);
  const KvView& cache = task.caches[rows.first];
  const KvLayout layout = cache.layout;
  const std::byte* const keys =
      cache.heads + (size_t{task.layer} * 2 * task.n_kv_heads + kv_head) * layout.head_bytes();
  const std::byte* const values = keys + task.n_kv_heads * layout.head_bytes();

  for (unsigned i = threadIdx.x; i < work.n_queries * d; i += n_threads) {
    const unsigned q = i / d, at = work.first_query + q, row = rows.first + at / group;
    shared.queries[q * D + i % d] = task.q[(size_t{row} * task.n_heads + kv_head * group + at % group) * d + i % d];
  }
  if (threadIdx.x < attention_queries) {
    shared.maxima[threadIdx.x] = -INFINITY;
    shared.sums[threadIdx.x] = 0;
  }
  ThreadSums<D> sums = {};
  for (unsigned from = work.begin; from < work.end; from += Shape<D>::positions) {
    const unsigned n = work.end - from < Shape<D>::positions ? work.end - from : Shape<D>::positions;
    __syncthreads();
    bring<D>(layout, keys, from, n, shared);
    __syncthreads();
    score<D>(task, work, rows, from, n, shared);
    __syncthreads();
    bring<D>(layout, values, from, n, shared);
    __syncthreads();
    add_values<D>(work, n, d, shared, sums);
  }
  __syncthreads();
  write<D>(task, work, rows, kv_head, split, shared, sums);
}

// A block merges the splits of one head of one row. A split that saw nothing has the maximum -infinity and the sum 0.
__global__ void __launch_bounds__(n_threads) merge_splits(Attend task) {
  const size_t vector = size_t{blockIdx.y} * task.n_heads + blockIdx.x, first = vector * task.most_splits;
  float largest = -INFINITY, sum = 0;
  for (unsigned s = 0; s < task.most_splits; s++) largest = fmaxf(largest, task.partial_max[first + s]);
  for (unsigned s = 0; s < task.most_splits; s++) {
    sum = fmaf(expf(task.partial_max[first + s] - largest), task.partial_sum[first + s], sum);
  }
  for (unsigned c = threadIdx.x; c < task.head_size; c += n_threads) {
    float value = 0;
    for (unsigned s = 0; s < task.most_splits; s++) {
      const float factor = expf(task.partial_max[first + s] - largest);
      value = fmaf(factor, task.partial_out[(first + s) * task.head_size + c], value);
    }
    task.out[vector * task.head_size + c] = value / sum;
  }
}

}  // namespace

int enqueue_attention(void* stream, const Attend& task) {
  const unsigned per_row = ceil_div(task.n_heads / task.n_kv_heads, attention_queries);
  const dim3 grid(task.n_blocks, task.n_kv_heads * per_row, task.most_splits);
  const auto kernel = task.head_size <= 64 ? attend<64> : task.head_size <= 128 ? attend<128> : attend<256>;
  const int code = launch(stream, grid, n_threads, kernel, task);
  if (code != 0 || task.most_splits == 1) return code;
  return launch(stream, dim3(task.n_heads, task.n_rows), n_threads, merge_splits, task);
}

}  // namespace finermoe::cuda
