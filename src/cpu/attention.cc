// Queries, keys and values with their rotary embedding, the cache, and attention over it.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/cpu_step.h"
#include "cpu/kv_layout.h"

namespace finermoe {
namespace {

// The first position that a row sees, or some before it: where the kernels begin a block of positions.
size_t first_block(const AttentionShape& shape, size_t position) {
  if (shape.window == 0 || position < shape.window) return 0;
  return (position + 1 - shape.window) / attention_key_block * attention_key_block;
}

}  // namespace

// A task computes a head of queries, keys or values, or as many as fill whole panels, for some rows.
void CpuStep::qkv(DevicePtr<const float> x, const QkvWeights& weights, const AttentionShape& shape, uint64_t layer,
                  DevicePtr<float> q_out) {
  if (n_ == 0) return;
  const size_t d = shape.head_size, half = d / 2, heads = heads_per_task(d);
  const size_t n_chunks = ceil_div(n_, matmul_max_vectors), chunk = ceil_div(n_, n_chunks);
  const size_t q_tasks = ceil_div(shape.n_heads, heads), kv_tasks = ceil_div(shape.n_kv_heads, heads);
  const Inputs inputs =
      inputs_of(x.address(), n_, shape.hidden_size, {weights.q.dtype, weights.k.dtype, weights.v.dtype});
  pool_->run(n_chunks * (q_tasks + 2 * kv_tasks), [&](size_t task, size_t worker) {
    const size_t first = task % n_chunks * chunk, count = std::min(chunk, n_ - first);
    size_t part = task / n_chunks;
    const bool is_query = part < q_tasks;
    if (!is_query) part -= q_tasks;
    const bool is_value = !is_query && part >= kv_tasks;
    if (is_value) part -= kv_tasks;
    const WeightView& weight = is_query ? weights.q : is_value ? weights.v : weights.k;
    const WeightView& bias = is_query ? weights.q_bias : is_value ? weights.v_bias : weights.k_bias;
    const size_t head = part * heads, n_heads = std::min(heads, (is_query ? shape.n_heads : shape.n_kv_heads) - head);

    const void* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = input_row(inputs, weight.dtype, first + i);
      out_rows[i] = is_query ? q_out.address() + ((first + i) * shape.n_heads + head) * d
                             : memory_.rows(worker) + i * n_heads * d;
      if (bias) {
        kernels_.widen(bias.data.address() + head * d * size_of(bias.dtype), bias.dtype, n_heads * d, out_rows[i]);
      } else {
        std::fill_n(out_rows[i], n_heads * d, 0.0f);
      }
    }
    const WeightView rows = rows_of(weight, head * d, n_heads * d);
    kernels_.matmul({x_rows, is_narrowed(inputs, weight.dtype), out_rows, count, rows.data.address(), rows.dtype,
                     rows.rows, rows.columns, true, memory_.matmul(worker)});
    for (size_t at = 0; at < count * n_heads; at++) {
      const size_t row = first + at / n_heads, h = at % n_heads;
      float* vector = out_rows[at / n_heads] + h * d;
      if (!is_value) kernels_.rotate(vector, memory_.rope_cos + row * half, memory_.rope_sin + row * half, half);
      if (is_query) continue;
      const CpuKvCache& cache = cache_of(row);
      const KvLayout& layout = cache.layout();
      const KvKind kind = is_value ? KvKind::value : KvKind::key;
      auto* narrowed = reinterpret_cast<std::byte*>(memory_.attention(worker));
      if (cache.shape().dtype == DType::q8) {
        layout.quantize(vector, narrowed);
      } else {
        kernels_.narrow(vector, cache.shape().dtype, d, narrowed);
      }
      layout.put(kind, narrowed, memory_.positions[row], cache.head(layer, kind, head + h));
    }
  });
}

// Cuts the rows into blocks of one session each. The positions of a session with few rows are divided among tasks: into
// as many parts as follows from the rows' positions alone, so that the sums have one order for any number of threads.
std::span<AttentionBlock> CpuStep::attention_blocks(const AttentionShape& shape) const {
  const size_t most_rows = std::max<size_t>(1, attention_max_queries / (shape.n_heads / shape.n_kv_heads));
  AttentionBlock* blocks = memory_.attention_blocks;
  size_t n_blocks = 0;
  for (size_t begin = 0, end; begin < n_; begin = end) {
    for (end = begin + 1; end < n_ && memory_.sessions[end] == memory_.sessions[begin];) end++;
    const size_t n_positions = memory_.positions[end - 1] + size_t{1} - first_block(shape, memory_.positions[begin]);
    const size_t n_parts = end - begin <= most_rows ? attention_parts(n_positions) : 1;
    for (size_t row = begin; row < end; row += most_rows) {
      const size_t n_rows = std::min(most_rows, end - row);
      const bool has_room =
          n_parts * n_rows * shape.n_heads <= memory_.n_partials;  // as long as the step keeps its word
      blocks[n_blocks++] = {row, n_rows, has_room ? n_parts : 1, 0, 0};
    }
  }
  std::reverse(blocks, blocks + n_blocks);  // long tasks, those of late positions, first
  return {blocks, n_blocks};
}

// The sums of all parts of the positions, relative to the largest score of all.
void CpuStep::join_parts(const AttentionBlock& block, const AttentionShape& shape, size_t kv_head, float* out) const {
  const size_t d = shape.head_size, group = shape.n_heads / shape.n_kv_heads, n = block.n_rows * group;
  const size_t first = block.first_partial + kv_head * block.n_parts * n;
  const float *largest = memory_.largest + first, *totals = memory_.totals + first, *sums = memory_.sums + first * d;
  for (size_t i = 0; i < n; i++) {
    float* to = out + ((block.row + i / group) * shape.n_heads + kv_head * group + i % group) * d;
    float top = -INFINITY, total = 0;
    for (size_t at = i; at < block.n_parts * n; at += n) top = std::max(top, largest[at]);
    std::fill_n(to, d, 0.0f);
    for (size_t at = i; at < block.n_parts * n; at += n) {
      const float factor = std::exp(largest[at] - top);
      total += factor * totals[at];
      for (size_t c = 0; c < d; c++) to[c] += factor * sums[at * d + c];
    }
    for (size_t c = 0; c < d; c++) to[c] /= total;
  }
}

// One part of the positions for all query heads of one key-value head in a block of rows.
void CpuStep::attend(const AttentionBlock& block, size_t part, size_t kv_head, const float* q,
                     const AttentionShape& shape, uint64_t layer, float* out, size_t worker) const {
  const size_t d = shape.head_size, group = shape.n_heads / shape.n_kv_heads, n = block.n_rows * group;
  const CpuKvCache& cache = cache_of(block.row);
  const KvLayout& layout = cache.layout();
  const size_t end = memory_.positions[block.row + block.n_rows - 1] + size_t{1};
  const size_t begin = first_block(shape, memory_.positions[block.row]);
  const size_t of_part = ceil_div(ceil_div(end - begin, block.n_parts), attention_key_block) * attention_key_block;
  const size_t partial = block.first_partial + (kv_head * block.n_parts + part) * n;
  const bool whole = block.n_parts == 1;
  const size_t window = shape.window == 0 ? SIZE_MAX : shape.window;

  const float* q_vectors[attention_max_queries];
  float* out_vectors[attention_max_queries];
  size_t visible[attention_max_queries];
  for (size_t i = 0; i < n;) {  // more than once only where one row alone has too many query heads
    const size_t first = i;
    for (; i < std::min(n, first + attention_max_queries); i++) {
      const size_t row = block.row + i / group, head = kv_head * group + i % group;
      q_vectors[i - first] = q + (row * shape.n_heads + head) * d;
      out_vectors[i - first] = whole ? out + (row * shape.n_heads + head) * d : memory_.sums + (partial + i) * d;
      visible[i - first] = memory_.positions[row] + size_t{1};
    }
    kernels_.attention({q_vectors, out_vectors, visible, window, i - first, d, layout.width(), layout.panel_bytes(),
                        cache.head(layer, KvKind::key, kv_head), cache.head(layer, KvKind::value, kv_head),
                        cache.shape().dtype, begin + part * of_part, std::min(end, begin + (part + 1) * of_part),
                        1.0f / std::sqrt(static_cast<float>(d)), precision_ == Precision::fast,
                        whole ? nullptr : memory_.largest + partial + first,
                        whole ? nullptr : memory_.totals + partial + first, memory_.attention(worker)});
  }
  if (whole) return;
  std::atomic_ref<uint32_t> done(memory_.parts_done[block.first_partial + kv_head * block.n_parts * n]);
  if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == block.n_parts) {
    done.store(0, std::memory_order_relaxed);
    join_parts(block, shape, kv_head, out);
  }
}

void CpuStep::attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) {
  std::span<AttentionBlock> blocks = attention_blocks(shape);
  while (!blocks.empty()) {  // as many at a time as there is room for their partial sums
    size_t n_blocks = 0, n_tasks = 0, n_partials = 0;
    for (; n_blocks < blocks.size(); n_blocks++) {
      AttentionBlock& block = blocks[n_blocks];
      const size_t partials = block.n_parts == 1 ? 0 : block.n_parts * block.n_rows * shape.n_heads;
      if (n_partials + partials > memory_.n_partials) break;
      block.first_partial = n_partials;
      block.first_task = n_tasks;
      n_partials += partials;
      n_tasks += block.n_parts * shape.n_kv_heads;
    }
    pool_->run(n_tasks, [&](size_t task, size_t worker) {
      auto after = std::upper_bound(blocks.begin(), blocks.begin() + n_blocks, task,
                                    [](size_t t, const AttentionBlock& block) { return t < block.first_task; });
      const AttentionBlock& block = *(after - 1);
      const size_t at = task - block.first_task;
      attend(block, at / shape.n_kv_heads, at % shape.n_kv_heads, q.address(), shape, layer, out.address(), worker);
    });
    blocks = blocks.subspan(n_blocks);
  }
}

}  // namespace finermoe
