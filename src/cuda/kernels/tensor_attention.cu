// Causal attention on tensor cores, for passes of many rows: tiles of positions whose keys and values become BF16 on
// the way to shared memory, with a running softmax in float32.
#include "cuda/kernels/cache.cuh"
#include "cuda/kernels/tensor_core.cuh"

namespace finermoe::cuda {
namespace {

constexpr unsigned n_threads = 128, n_warps = n_threads / warp_size, queries_of_warp = tensor_queries / n_warps;
constexpr unsigned chunk_size = 8;  // elements of 16 bytes
static_assert(queries_of_warp == 16);

// For heads of up to D columns.
template <unsigned D>
struct Arrays {
  static constexpr unsigned chunks = D / chunk_size, positions = D > 128 ? 16 : 64;  // of a vector, of a tile
  SharedArray<uint4, tensor_queries * chunks> queries;
  SharedArray<uint4, positions * chunks> keys, values;

  // The same chunk of eight neighbouring vectors lies in different banks.
  static __device__ unsigned at(unsigned vector, unsigned chunk) { return vector * chunks + (chunk ^ vector % 8); }
};

// Queries of one block, and the positions [begin, end) that one of them sees.
struct Work {
  AttentionRows rows;
  unsigned kv_head, first_query, n_queries;  // queries among [rows][heads of the key-value head]
  unsigned begin, end;
};
__device__ Work own_work(const Attend& task) {
  const unsigned group = task.n_heads / task.n_kv_heads, parts = ceil_div(group, tensor_queries);
  Work work{};
  work.rows = task.rows[blockIdx.x];
  work.kv_head = blockIdx.y / parts;
  work.first_query = blockIdx.y % parts * tensor_queries;
  const unsigned n_queries = work.rows.count * group - work.first_query;
  work.n_queries = n_queries < tensor_queries ? n_queries : tensor_queries;
  const unsigned first = task.positions[work.rows.first];
  work.begin = task.window == 0 || first < task.window ? 0 : first + 1 - task.window;
  work.end = task.positions[work.rows.first + work.rows.count - 1] + 1;
  return work;
}
// The vector of a query among [n, n_heads], and its position; the last one stands for those that are not there.
struct Query {
  size_t vector;
  unsigned position;
};
__device__ Query query_of(const Attend& task, const Work& work, unsigned query) {
  const unsigned group = task.n_heads / task.n_kv_heads, last = work.n_queries - 1;
  const unsigned at = work.first_query + (query < last ? query : last), row = work.rows.first + at / group;
  return {size_t{row} * task.n_heads + work.kv_head * group + at % group, task.positions[row]};
}

__device__ uint4 pack_chunk(const float (&values)[chunk_size]) {
  return {pack_pair<DType::bf16>(values[0], values[1]), pack_pair<DType::bf16>(values[2], values[3]),
          pack_pair<DType::bf16>(values[4], values[5]), pack_pair<DType::bf16>(values[6], values[7])};
}

template <unsigned D>
__device__ void bring_queries(const Attend& task, const Work& work, unsigned n_chunks, Arrays<D>& shared) {
  for (unsigned i = threadIdx.x; i < tensor_queries * n_chunks; i += n_threads) {
    const unsigned query = i / n_chunks, chunk = i % n_chunks;
    const float* const from = task.q + query_of(task, work, query).vector * task.head_size;
    float eight[chunk_size];
#pragma unroll
    for (unsigned c = 0; c < chunk_size; c += 4) {
      float four[4];
      load_activations(from, chunk * chunk_size + c, task.head_size, four);
#pragma unroll
      for (unsigned k = 0; k < 4; k++) eight[c + k] = four[k];
    }
    shared.queries[shared.at(query, chunk)] = pack_chunk(eight);
  }
}

// Elements of a cached vector from a multiple of 8 on, zeros beyond its end.
__device__ void load_chunk(const KvLayout& layout, const std::byte* head, unsigned position, unsigned first,
                           float (&out)[chunk_size]) {
  const auto d = static_cast<unsigned>(layout.head_size);
  const std::byte* const vector = head + position * layout.vector_bytes();
  if (first >= d) {
#pragma unroll
    for (float& x : out) x = 0;
  } else if (layout.dtype == DType::q8) {
    const uint2 codes = __ldg(reinterpret_cast<const uint2*>(vector + first));
    const auto* const scales =
        reinterpret_cast<const unsigned short*>(head + layout.scales_at() + position * layout.scale_bytes());
    const float scale = from_f16(__ldg(scales + first / block_columns));
    const uint32_t words[2] = {codes.x, codes.y};
#pragma unroll
    for (unsigned w = 0; w < 2; w++) {
      float four[4];
      q8_values_of(words[w] ^ 0x80808080u, four);
#pragma unroll
      for (unsigned c = 0; c < 4; c++) out[4 * w + c] = first + 4 * w + c < d ? four[c] * scale : 0;
    }
  } else if (d % chunk_size != 0) {  // vectors begin anywhere
#pragma unroll
    for (unsigned i = 0; i < chunk_size; i++)
      out[i] = first + i < d ? load_cached(layout, head, position, first + i) : 0;
  } else if (layout.dtype == DType::f32) {
#pragma unroll
    for (unsigned i = 0; i < chunk_size; i += 4) {
      float four[4];
      load_elements<DType::f32>(vector + (first + i) * sizeof(float), four);
#pragma unroll
      for (unsigned c = 0; c < 4; c++) out[i + c] = four[c];
    }
  } else if (layout.dtype == DType::f16) {
    load_elements<DType::f16>(vector + first * 2, out);
  } else {
    load_elements<DType::bf16>(vector + first * 2, out);
  }
}

// Brings positions [from, from + n) to shared memory; there are zeros behind them. Tensor cores also multiply the
// values of positions that a query does not see, by 0: what is not finite makes its key NaN instead, which is then left
// out or not.
template <unsigned D>
__device__ void bring_tile(const KvLayout& layout, const std::byte* keys, const std::byte* values, unsigned from,
                           unsigned n, unsigned n_chunks, Arrays<D>& shared) {
  for (unsigned i = threadIdx.x; i < shared.positions * n_chunks; i += n_threads) {
    const unsigned position = i / n_chunks, chunk = i % n_chunks, at = shared.at(position, chunk);
    uint4 key{}, value{};
    if (position < n) {
      float of_key[chunk_size], of_value[chunk_size];
      load_chunk(layout, keys, from + position, chunk * chunk_size, of_key);
      load_chunk(layout, values, from + position, chunk * chunk_size, of_value);
      float zero = 0;
#pragma unroll
      for (unsigned c = 0; c < chunk_size; c++) zero += of_value[c] * 0;
      if (zero == 0) value = pack_chunk(of_value);
#pragma unroll
      for (unsigned c = 0; c < chunk_size; c++) of_key[c] += zero;
      key = pack_chunk(of_key);
    }
    shared.keys[at] = key;
    shared.values[at] = value;
  }
}

// Of a warp's 16 queries; a lane has two of them, lane / 4 and 8 more.
template <unsigned D>
struct Running {
  unsigned positions[2];
  float maxima[2], sums[2];
  float values[D / 8][4];  // 8 columns each, as multiply_add() has them
};
template <unsigned D>
using Scores = float[Arrays<D>::positions / 8][4];

template <unsigned D>
__device__ void score(unsigned n_chunks, Arrays<D>& shared, Scores<D>& scores) {
  const unsigned lane = threadIdx.x % warp_size, first = threadIdx.x / warp_size * queries_of_warp;
#pragma unroll
  for (unsigned j = 0; j < shared.positions / 8; j++) {
#pragma unroll
    for (unsigned k = 0; k < 4; k++) scores[j][k] = 0;
  }
  for (unsigned chunk = 0; chunk < n_chunks; chunk += 2) {
    uint32_t queries[4];
    load_matrices(shared.queries, shared.at(first + lane % 16, chunk + lane / 16), queries);
#pragma unroll
    for (unsigned j = 0; j < shared.positions / 8; j += 2) {
      uint32_t keys[4];
      load_matrices(shared.keys, shared.at(j * 8 + lane / 16 * 8 + lane % 8, chunk + lane / 8 % 2), keys);
      multiply_add<DType::bf16>(scores[j], queries, keys[0], keys[1]);
      multiply_add<DType::bf16>(scores[j + 1], queries, keys[2], keys[3]);
    }
  }
}

// Scores of positions from `from` on become probabilities relative to the running maxima; rescales what was summed.
template <unsigned D>
__device__ void soften(const Attend& task, unsigned from, Scores<D>& scores, Running<D>& running) {
  constexpr unsigned n_scores = Arrays<D>::positions / 8;
  const float scale = task.scale * 1.44269504f;  // exp(x) = 2^(x log2 e)
  const unsigned first = from + threadIdx.x % 4 * 2;
  float largest[2] = {running.maxima[0], running.maxima[1]};
#pragma unroll
  for (unsigned j = 0; j < n_scores; j++) {
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      const unsigned at = first + j * 8 + k % 2, position = running.positions[k / 2];
      const bool is_seen = at <= position && (task.window == 0 || at + task.window > position);
      scores[j][k] = is_seen ? scores[j][k] * scale : -INFINITY;
      largest[k / 2] = fmaxf(largest[k / 2], scores[j][k]);
    }
  }
  float factors[2];
#pragma unroll
  for (unsigned r = 0; r < 2; r++) {
    largest[r] = combine_lanes<1, 2>(largest[r], LargerOfTwo());
    const float before = running.maxima[r];
    running.maxima[r] = largest[r];
    if (largest[r] == -INFINITY) largest[r] = 0;  // nothing is seen yet
    factors[r] = exp2f(before - largest[r]);
    running.sums[r] *= factors[r];
  }
#pragma unroll
  for (unsigned j = 0; j < n_scores; j++) {
#pragma unroll
    for (unsigned k = 0; k < 4; k++) {
      scores[j][k] = exp2f(scores[j][k] - largest[k / 2]);
      running.sums[k / 2] += scores[j][k];
    }
  }
#pragma unroll
  for (unsigned j = 0; j < D / 8; j++) {
#pragma unroll
    for (unsigned k = 0; k < 4; k++) running.values[j][k] *= factors[k / 2];
  }
}

template <unsigned D>
__device__ void add_values(const Scores<D>& probabilities, unsigned n_chunks, Arrays<D>& shared, Running<D>& running) {
  const unsigned lane = threadIdx.x % warp_size;
#pragma unroll
  for (unsigned p = 0; p < shared.positions / 16; p++) {
    const float(&low)[4] = probabilities[2 * p], (&high)[4] = probabilities[2 * p + 1];
    const uint32_t of_queries[4] = {pack_pair<DType::bf16>(low[0], low[1]), pack_pair<DType::bf16>(low[2], low[3]),
                                    pack_pair<DType::bf16>(high[0], high[1]), pack_pair<DType::bf16>(high[2], high[3])};
#pragma unroll
    for (unsigned j = 0; j < D / 8; j += 2) {
      if (j >= n_chunks) continue;
      uint32_t values[4];
      load_transposed(shared.values, shared.at(p * 16 + lane % 16, j + lane / 16), values);
      multiply_add<DType::bf16>(running.values[j], of_queries, values[0], values[1]);
      multiply_add<DType::bf16>(running.values[j + 1], of_queries, values[2], values[3]);
    }
  }
}

template <unsigned D>
__device__ void write(const Attend& task, const Work& work, unsigned first_query, const Running<D>& running) {
  const unsigned lane = threadIdx.x % warp_size, d = task.head_size;
#pragma unroll
  for (unsigned r = 0; r < 2; r++) {
    const float sum = combine_lanes<1, 2>(running.sums[r], SumOfTwo());
    const unsigned query = first_query + lane / 4 + r * 8;
    if (query >= work.n_queries) continue;
    float* const to = task.out + query_of(task, work, query).vector * d;
#pragma unroll
    for (unsigned j = 0; j < D / 8; j++) {
#pragma unroll
      for (unsigned c = 0; c < 2; c++) {
        const unsigned column = j * 8 + lane % 4 * 2 + c;
        if (column < d) to[column] = running.values[j][2 * r + c] / sum;
      }
    }
  }
}

// Blocks that a multiprocessor has room for at least; 0: as nvcc chooses. For 10.0 it chooses more of them and spills.
template <unsigned D>
constexpr int least_blocks() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 1000
  if (D == 64) return 3;
#endif
  return 0;
}

// Grid: blocks of rows; key-value heads and parts of their queries.
template <unsigned D>
__global__ void __launch_bounds__(n_threads, least_blocks<D>()) attend_on_tensors(Attend task) {
  __shared__ Arrays<D> shared;
  const Work work = own_work(task);
  const KvView& cache = task.caches[work.rows.first];
  const KvLayout layout = cache.layout;
  const std::byte* const keys =
      cache.heads + (size_t{task.layer} * 2 * task.n_kv_heads + work.kv_head) * layout.head_bytes();
  const std::byte* const values = keys + task.n_kv_heads * layout.head_bytes();
  const unsigned n_chunks = ceil_div(task.head_size, 2 * chunk_size) * 2;
  const unsigned first_query = threadIdx.x / warp_size * queries_of_warp;
  Running<D> running{};
#pragma unroll
  for (unsigned r = 0; r < 2; r++) {
    running.positions[r] = query_of(task, work, first_query + threadIdx.x % warp_size / 4 + r * 8).position;
    running.maxima[r] = -INFINITY;
  }
  bring_queries(task, work, n_chunks, shared);
  for (unsigned from = work.begin; from < work.end; from += shared.positions) {
    const unsigned n = work.end - from < shared.positions ? work.end - from : shared.positions;
    __syncthreads();  // the tile before has been read
    bring_tile(layout, keys, values, from, n, n_chunks, shared);
    __syncthreads();
    if (first_query >= work.n_queries) continue;
    Scores<D> scores;
    score<D>(n_chunks, shared, scores);
    soften<D>(task, from, scores, running);
    add_values<D>(scores, n_chunks, shared, running);
  }
  if (first_query < work.n_queries) write(task, work, first_query, running);
}

}  // namespace

int enqueue_tensor_attention(void* stream, const Attend& task) {
  const dim3 grid(task.n_blocks, task.n_kv_heads * ceil_div(task.n_heads / task.n_kv_heads, tensor_queries));
  const auto kernel = task.head_size <= 64    ? attend_on_tensors<64>
                      : task.head_size <= 128 ? attend_on_tensors<128>
                                              : attend_on_tensors<256>;
  return launch(stream, grid, n_threads, kernel, task);
}

}  // namespace finermoe::cuda
