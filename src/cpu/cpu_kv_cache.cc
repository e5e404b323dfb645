#include "cpu/cpu_kv_cache.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <vector>

#include "base/saturating.h"
#include "cpu/kernels.h"
#include "cpu/step_memory.h"

namespace finermoe {

CpuKvCache::CpuKvCache(const KvShape& shape, std::shared_ptr<ThreadPool> pool, Buffer buffer)
    : KvCache(shape),
      layout_(shape.dtype, shape.head_size),
      blocks_(blocks_for(layout_, shape.capacity)),
      pool_(std::move(pool)),
      buffer_(std::move(buffer)) {}

// A head's part of a block is long enough to be read at full speed; and the last block adds little to a capacity. What
// is small enough is one block, of whole panels.
CpuKvCache::Blocks CpuKvCache::blocks_for(const KvLayout& layout, uint64_t capacity) {
  constexpr uint64_t most_bytes = 128 << 10, least_blocks = 8;
  if (layout.head_bytes(capacity) <= most_bytes) return {capacity != 0 ? 1u : 0u, 63, layout.head_bytes(capacity)};
  uint64_t positions = attention_key_block;
  while (layout.head_bytes(2 * positions) <= most_bytes && 2 * positions <= capacity / least_blocks) positions *= 2;
  return {ceil_div(capacity, positions), uint64_t(std::countr_zero(positions)), layout.head_bytes(positions)};
}

uint64_t CpuKvCache::bytes(const KvShape& shape) {
  const KvLayout layout(shape.dtype, shape.head_size);
  const Blocks blocks = blocks_for(layout, shape.capacity);
  return saturating_product(blocks.n, saturating_product(shape.n_heads(), blocks.head_bytes));
}

Result<std::unique_ptr<CpuKvCache>> CpuKvCache::make(const KvShape& shape, std::shared_ptr<ThreadPool> pool,
                                                     std::shared_ptr<MemoryAccount> account, std::string_view what) {
  FM_ASSIGN(Buffer buffer, Buffer::allocate(std::move(account), bytes(shape), what));
  return std::unique_ptr<CpuKvCache>(new CpuKvCache(shape, std::move(pool), std::move(buffer)));
}

Status CpuKvCache::copy_prefix(const KvCache& from, size_t n) {
  const auto& source = static_cast<const CpuKvCache&>(from);
  const auto panel_of = [&](const CpuKvCache& cache, uint64_t index, uint64_t position) {
    return cache.block(index, position) + layout_.head_bytes(cache.in_block(position));
  };
  for (uint64_t begin = 0, count; begin < n; begin += count) {  // positions that lie together in both
    const auto rest = [&](const CpuKvCache& cache) {
      return (uint64_t{1} << cache.block_shift()) - cache.in_block(begin);
    };
    count = std::min({n - begin, rest(*this), rest(source)});
    for (uint64_t i = 0; i < shape().n_heads(); i++) {
      std::memcpy(panel_of(*this, i, begin), panel_of(source, i, begin), layout_.head_bytes(count));
    }
  }
  return {};
}

Status CpuKvCache::move_down(size_t begin, size_t end, size_t n, const Rope& rope) {
  const uint64_t d = shape().head_size, half = d / 2, n_heads = shape().n_heads();
  std::vector<float> cos(half), sin(half);
  rope.turns_back(d, n, cos, sin);
  // One for each head, so that the tasks allocate nothing.
  std::vector<std::byte> vectors(n_heads * layout_.vector_bytes());
  std::vector<float> keys(n_heads * d);
  pool_->run(n_heads, [&](size_t index, size_t) {
    const KvKind kind = shape().kind_of(index);
    float* const key = keys.data() + index * d;
    std::byte* const vector = vectors.data() + index * layout_.vector_bytes();
    for (size_t from = begin; from < end; from++) {
      if (kind == KvKind::key) {
        layout_.decode(kind, block(index, from), in_block(from), key);
        for (size_t i = 0; i < half; i++) {
          const float x = key[i], y = key[i + half];
          key[i] = x * cos[i] + y * sin[i];
          key[i + half] = y * cos[i] - x * sin[i];
        }
        layout_.encode(key, vector);
      } else {
        layout_.get(kind, block(index, from), in_block(from), vector);
      }
      layout_.put(kind, vector, in_block(from - n), block(index, from - n));
    }
  });
  return {};
}

Status CpuKvCache::read(uint64_t index, size_t begin, size_t n, std::span<std::byte> vectors) const {
  for (size_t i = 0; i < n; i++) {
    layout_.get(shape().kind_of(index), block(index, begin + i), in_block(begin + i),
                vectors.data() + i * layout_.vector_bytes());
  }
  return {};
}

Status CpuKvCache::write(uint64_t index, size_t begin, size_t n, std::span<const std::byte> vectors) {
  for (size_t i = 0; i < n; i++) {
    layout_.put(shape().kind_of(index), vectors.data() + i * layout_.vector_bytes(), in_block(begin + i),
                block(index, begin + i));
  }
  return {};
}

}  // namespace finermoe
