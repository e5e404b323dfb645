// Queries, keys and values with their rotary embedding, the cache, and attention over it.
#include <algorithm>
#include <atomic>
#include <cmath>

#include "cpu/cpu_step.h"
#include "cpu/kv_layout.h"

namespace finermoe {
namespace {

// The first position that a row sees, rounded down to where the kernels begin a block of positions.
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

    const Form form = form_of(inputs, weight.dtype);
    const void* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = input_row(inputs, form, first + i);
      out_rows[i] = is_query ? q_out.address() + ((first + i) * shape.n_heads + head) * d
                             : memory_.rows(worker) + i * n_heads * d;
      if (bias) {
        kernels_.widen(bias.data.address() + head * d * size_of(bias.dtype), bias.dtype, n_heads * d, out_rows[i]);
      } else {
        std::fill_n(out_rows[i], n_heads * d, 0.0f);
      }
    }
    multiply_rows(x_rows, form, out_rows, count, rows_of(weight, head * d, n_heads * d), true, worker);
    for (size_t at = 0; at < count * n_heads; at++) {
      const size_t row = first + at / n_heads, h = at % n_heads;
      float* vector = out_rows[at / n_heads] + h * d;
      if (!is_value) kernels_.rotate(vector, memory_.rope_cos + row * half, memory_.rope_sin + row * half, half);
      if (is_query) continue;
      const CpuKvCache& cache = cache_of(row);
      const KvLayout& layout = cache.layout();
      const KvKind kind = is_value ? KvKind::value : KvKind::key;
      auto* stored = reinterpret_cast<std::byte*>(memory_.attention(worker));
      if (cache.shape().dtype == DType::q8) {
        layout.quantize(vector, stored);
      } else {
        kernels_.round_to(vector, cache.shape().dtype, d, stored);
      }
      const uint64_t index = cache.index_of(layer, kind, head + h), position = memory_.positions[row];
      layout.put(kind, stored, cache.in_block(position), cache.block(index, position));
    }
  });
}

// Cuts the rows into blocks of one session each. With few rows a session's positions are divided into KV splits, a task
// each. Their number depends on the rows' positions alone, so that the order of summation is the same for any number of
// threads.
std::span<AttentionBlock> CpuStep::attention_blocks(const AttentionShape& shape) const {
  const size_t fitting = attention_max_queries / (shape.n_heads / shape.n_kv_heads);
  const size_t most_rows = as_alone_ ? 1 : std::max<size_t>(1, fitting);
  AttentionBlock* blocks = memory_.attention_blocks;
  size_t n_blocks = 0;
  for (size_t begin = 0, end; begin < n_; begin = end) {
    for (end = begin + 1; !as_alone_ && end < n_ && memory_.sessions[end] == memory_.sessions[begin];) end++;
    const size_t n_positions = memory_.positions[end - 1] + size_t{1} - first_block(shape, memory_.positions[begin]);
    const size_t n_splits = end - begin <= most_rows ? kv_splits(n_positions) : 1;
    for (size_t row = begin; row < end; row += most_rows) {
      const size_t n_rows = std::min(most_rows, end - row);
      // There is room unless positions lie beyond those that the step was made for.
      const bool has_room = n_splits * n_rows * shape.n_heads <= memory_.n_partials;
      blocks[n_blocks++] = {row, n_rows, has_room ? n_splits : 1, 0, 0};
    }
  }
  std::reverse(blocks, blocks + n_blocks);  // long tasks, those of late positions, first
  return {blocks, n_blocks};
}

// Merges the KV splits of a block for the query heads of one key-value head.
void CpuStep::merge_splits(const AttentionBlock& block, const AttentionShape& shape, size_t kv_head, float* out) const {
  const size_t d = shape.head_size, group = shape.n_heads / shape.n_kv_heads, n = block.n_rows * group;
  const size_t first = block.first_partial + kv_head * block.n_splits * n;
  const float *split_max = memory_.split_max + first, *split_sum = memory_.split_sum + first;
  const float* split_out = memory_.split_out + first * d;
  for (size_t i = 0; i < n; i++) {
    float* to = out + ((block.row + i / group) * shape.n_heads + kv_head * group + i % group) * d;
    float max = -INFINITY, sum = 0;
    for (size_t at = i; at < block.n_splits * n; at += n) max = std::max(max, split_max[at]);
    std::fill_n(to, d, 0.0f);
    for (size_t at = i; at < block.n_splits * n; at += n) {
      const float factor = std::exp(split_max[at] - max);
      sum += factor * split_sum[at];
      for (size_t c = 0; c < d; c++) to[c] += factor * split_out[at * d + c];
    }
    for (size_t c = 0; c < d; c++) to[c] /= sum;
  }
}

// One KV split of a block of rows, for all query heads of one key-value head.
void CpuStep::attend(const AttentionBlock& block, size_t split, size_t kv_head, const float* q,
                     const AttentionShape& shape, uint64_t layer, float* out, size_t worker) const {
  const size_t d = shape.head_size, group = shape.n_heads / shape.n_kv_heads, n = block.n_rows * group;
  const CpuKvCache& cache = cache_of(block.row);
  const KvLayout& layout = cache.layout();
  const size_t end = memory_.positions[block.row + block.n_rows - 1] + size_t{1};
  const size_t begin = first_block(shape, memory_.positions[block.row]);
  const size_t positions_per_split =
      ceil_div(ceil_div(end - begin, block.n_splits), attention_key_block) * attention_key_block;
  const size_t partial = block.first_partial + (kv_head * block.n_splits + split) * n;
  const bool whole = block.n_splits == 1;
  const size_t window = shape.window == 0 ? SIZE_MAX : shape.window;

  const float* q_vectors[attention_max_queries];
  float* out_vectors[attention_max_queries];
  size_t visible[attention_max_queries];
  for (size_t i = 0; i < n;) {  // more than once only where one row alone has too many query heads
    const size_t first = i;
    for (; i < std::min(n, first + attention_max_queries); i++) {
      const size_t row = block.row + i / group, head = kv_head * group + i % group;
      q_vectors[i - first] = q + (row * shape.n_heads + head) * d;
      out_vectors[i - first] = whole ? out + (row * shape.n_heads + head) * d : memory_.split_out + (partial + i) * d;
      visible[i - first] = memory_.positions[row] + size_t{1};
    }
    kernels_.attention({.q = q_vectors,
                        .out = out_vectors,
                        .visible = visible,
                        .window = window,
                        .n = i - first,
                        .head_size = d,
                        .width = layout.width(),
                        .panel_bytes = layout.panel_bytes(),
                        .keys = cache.block(cache.index_of(layer, KvKind::key, kv_head), 0),
                        .values = cache.block(cache.index_of(layer, KvKind::value, kv_head), 0),
                        .block_shift = cache.block_shift(),
                        .block_stride = cache.block_stride(),
                        .dtype = cache.shape().dtype,
                        .begin = begin + split * positions_per_split,
                        .end = std::min(end, begin + (split + 1) * positions_per_split),
                        .scale = 1.0f / std::sqrt(static_cast<float>(d)),
                        .quantized = precision_ == Precision::fast,
                        .bf16_dots = tuning_.bf16_dots,
                        .max = whole ? nullptr : memory_.split_max + partial + first,
                        .sum = whole ? nullptr : memory_.split_sum + partial + first,
                        .scratch = memory_.attention(worker)});
  }
  if (whole) return;
  std::atomic_ref<uint32_t> done(memory_.splits_done[block.first_partial + kv_head * block.n_splits * n]);
  if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == block.n_splits) {
    done.store(0, std::memory_order_relaxed);
    merge_splits(block, shape, kv_head, out);
  }
}

void CpuStep::attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) {
  std::span<AttentionBlock> blocks = attention_blocks(shape);
  while (!blocks.empty()) {  // as many at a time as there is room for their partial results
    size_t n_blocks = 0, n_tasks = 0, n_partials = 0;
    for (; n_blocks < blocks.size(); n_blocks++) {
      AttentionBlock& block = blocks[n_blocks];
      const size_t partials = block.n_splits == 1 ? 0 : block.n_splits * block.n_rows * shape.n_heads;
      if (n_partials + partials > memory_.n_partials) break;
      block.first_partial = n_partials;
      block.first_task = n_tasks;
      n_partials += partials;
      n_tasks += block.n_splits * shape.n_kv_heads;
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
