#include "cpu/cpu_kv_cache.h"

#include <cstring>
#include <vector>

#include "base/saturating.h"

namespace finermoe {

CpuKvCache::CpuKvCache(const KvShape& shape, std::shared_ptr<ThreadPool> pool, Buffer buffer)
    : KvCache(shape), layout_(shape.dtype, shape.head_size), pool_(std::move(pool)), buffer_(std::move(buffer)) {}

uint64_t CpuKvCache::bytes(const KvShape& shape) {
  return saturating_product(shape.n_heads(), KvLayout(shape.dtype, shape.head_size).head_bytes(shape.capacity));
}

Result<std::unique_ptr<CpuKvCache>> CpuKvCache::make(const KvShape& shape, std::shared_ptr<ThreadPool> pool,
                                                     std::shared_ptr<MemoryAccount> account, std::string_view what) {
  FM_ASSIGN(Buffer buffer, Buffer::allocate(std::move(account), bytes(shape), what));
  return std::unique_ptr<CpuKvCache>(new CpuKvCache(shape, std::move(pool), std::move(buffer)));
}

Status CpuKvCache::copy_prefix(const KvCache& from, size_t n) {
  const auto& source = static_cast<const CpuKvCache&>(from);
  for (uint64_t i = 0; i < shape().n_heads(); i++) std::memcpy(head(i), source.head(i), layout_.head_bytes(n));
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
        layout_.decode(kind, head(index), from, key);
        for (size_t i = 0; i < half; i++) {
          const float x = key[i], y = key[i + half];
          key[i] = x * cos[i] + y * sin[i];
          key[i + half] = y * cos[i] - x * sin[i];
        }
        layout_.encode(key, vector);
      } else {
        layout_.get(kind, head(index), from, vector);
      }
      layout_.put(kind, vector, from - n, head(index));
    }
  });
  return {};
}

Status CpuKvCache::read(uint64_t index, size_t begin, size_t n, std::span<std::byte> vectors) const {
  for (size_t i = 0; i < n; i++) {
    layout_.get(shape().kind_of(index), head(index), begin + i, vectors.data() + i * layout_.vector_bytes());
  }
  return {};
}

Status CpuKvCache::write(uint64_t index, size_t begin, size_t n, std::span<const std::byte> vectors) {
  for (size_t i = 0; i < n; i++) {
    layout_.put(shape().kind_of(index), vectors.data() + i * layout_.vector_bytes(), begin + i, head(index));
  }
  return {};
}

}  // namespace finermoe
