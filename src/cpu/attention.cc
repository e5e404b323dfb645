// Queries, keys and values with their rotary embedding, the cache, and attention over it.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"

namespace finermoe {
namespace {

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// Where one head's vectors lie in a cache: [capacity, head_size].
std::byte* keys_of(const KvCacheView& cache, const AttentionShape& shape, uint64_t layer, uint64_t kv_head) {
  const uint64_t head_bytes = cache.capacity * shape.head_size * size_of(cache.dtype);
  return cache.data + (layer * 2 * shape.n_kv_heads + kv_head) * head_bytes;
}
std::byte* values_of(const KvCacheView& cache, const AttentionShape& shape, uint64_t layer, uint64_t kv_head) {
  return keys_of(cache, shape, layer, shape.n_kv_heads + kv_head);
}

}  // namespace

// A task computes one head of queries, keys or values for some rows.
Status CpuBackend::qkv(const float* x, const QkvWeights& weights, const AttentionShape& shape, const RaggedBatch& batch,
                       uint64_t layer, float* q_out, Workspace& workspace) {
  if (batch.n() == 0) return {};
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  const size_t n = batch.n(), d = shape.head_size, half = d / 2;
  const size_t n_chunks = ceil_div(n, matmul_max_vectors), chunk = ceil_div(n, n_chunks);
  const size_t n_heads = shape.n_heads + 2 * shape.n_kv_heads;
  pool_->run(n_chunks * n_heads, [&](size_t task, size_t worker) {
    const size_t first = task % n_chunks * chunk, count = std::min(chunk, n - first);
    size_t head = task / n_chunks;
    const bool is_query = head < shape.n_heads;
    if (!is_query) head -= shape.n_heads;
    const bool is_value = !is_query && head >= shape.n_kv_heads;
    if (is_value) head -= shape.n_kv_heads;
    const WeightView& weight = is_query ? weights.q : is_value ? weights.v : weights.k;
    const WeightView& bias = is_query ? weights.q_bias : is_value ? weights.v_bias : weights.k_bias;

    const float* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = x + (first + i) * shape.hidden_size;
      out_rows[i] = is_query ? q_out + ((first + i) * shape.n_heads + head) * d : scratch.rows(worker) + i * d;
      kernels_.widen(bias.data + head * d * size_of(bias.dtype), bias.dtype, d, out_rows[i]);
    }
    const WeightView rows = rows_of(weight, head * d, d);
    kernels_.matmul(matmul_of(rows, x_rows, out_rows, count, true, scratch.matmul(worker)));
    for (size_t i = 0; i < count; i++) {
      const size_t row = first + i;
      if (!is_value) kernels_.rotate(out_rows[i], batch.rope_cos + row * half, batch.rope_sin + row * half, half);
      if (is_query) continue;
      const KvCacheView& cache = batch.caches[batch.sessions[row]];
      std::byte* vectors = is_value ? values_of(cache, shape, layer, head) : keys_of(cache, shape, layer, head);
      kernels_.narrow(out_rows[i], cache.dtype, d, vectors + batch.positions[row] * d * size_of(cache.dtype));
    }
  });
  return {};
}

// A task computes all query heads of one key-value head for some neighbouring rows of one session.
Status CpuBackend::attention(const float* q, const AttentionShape& shape, const RaggedBatch& batch, uint64_t layer,
                             float* out, Workspace& workspace) {
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  const size_t n = batch.n(), d = shape.head_size, group = shape.n_heads / shape.n_kv_heads;
  const size_t block_rows = std::max<size_t>(1, attention_max_queries / group);
  uint32_t* blocks = scratch.query_blocks;
  size_t n_blocks = 0;
  for (uint32_t row = 0; row < n; row++) {
    const bool same_block =
        row != 0 && batch.sessions[row] == batch.sessions[row - 1] && row - blocks[n_blocks - 1] < block_rows;
    if (!same_block) blocks[n_blocks++] = row;
  }
  blocks[n_blocks] = static_cast<uint32_t>(n);

  const float scale = 1.0f / std::sqrt(static_cast<float>(d));
  pool_->run(n_blocks * shape.n_kv_heads, [&](size_t task, size_t worker) {
    const size_t kv_head = task % shape.n_kv_heads;
    const size_t block = n_blocks - 1 - task / shape.n_kv_heads;  // long tasks, those of late positions, first
    const KvCacheView& cache = batch.caches[batch.sessions[blocks[block]]];
    const float* q_vectors[attention_max_queries];
    float* out_vectors[attention_max_queries];
    size_t visible[attention_max_queries], count = 0;
    auto flush = [&] {
      kernels_.attention({q_vectors, out_vectors, visible, count, d, keys_of(cache, shape, layer, kv_head),
                          values_of(cache, shape, layer, kv_head), cache.dtype, scale, scratch.attention(worker)});
      count = 0;
    };
    for (size_t row = blocks[block]; row < blocks[block + 1]; row++) {
      for (size_t head = kv_head * group; head < (kv_head + 1) * group; head++) {
        if (count == attention_max_queries) flush();  // only where one row alone has more query heads
        q_vectors[count] = q + (row * shape.n_heads + head) * d;
        out_vectors[count] = out + (row * shape.n_heads + head) * d;
        visible[count++] = batch.positions[row] + size_t{1};
      }
    }
    flush();
  });
  return {};
}

}  // namespace finermoe
