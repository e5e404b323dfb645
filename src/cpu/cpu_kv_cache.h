// The KV cache on the CPU: blocks of positions, [block][layer][keys, values][head][positions of the block], each head's
// part with the layout of KvLayout. So memory is touched from its beginning on, as positions are added, and a short
// session takes little of it, however long it may become.
#pragma once

#include "base/allocation.h"
#include "base/thread_pool.h"
#include "cpu/kv_layout.h"

namespace finermoe {

class CpuKvCache final : public KvCache {
 public:
  static uint64_t bytes(const KvShape& shape);  // UINT64_MAX on overflow
  static Result<std::unique_ptr<CpuKvCache>> make(const KvShape& shape, std::shared_ptr<ThreadPool> pool,
                                                  std::shared_ptr<MemoryAccount> account, std::string_view what);

  // The index of the keys or the values of one head.
  uint64_t index_of(uint64_t layer, KvKind kind, uint64_t kv_head) const {
    return (layer * 2 + (kind == KvKind::value)) * shape().n_kv_heads + kv_head;
  }
  // Where a head's keys or values are in the block of a position, and which of the block's positions that is.
  std::byte* block(uint64_t index, uint64_t position) const {
    return buffer_.data() + (position >> blocks_.shift) * block_stride() + index * blocks_.head_bytes;
  }
  uint64_t in_block(uint64_t position) const { return position & ((uint64_t{1} << blocks_.shift) - 1); }
  uint64_t block_shift() const { return blocks_.shift; }
  // Bytes from a block of a head to its next one.
  uint64_t block_stride() const { return shape().n_heads() * blocks_.head_bytes; }
  const KvLayout& layout() const { return layout_; }

  uint64_t bytes() const override { return buffer_.size(); }
  Status copy_prefix(const KvCache& from, size_t n) override;
  Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) override;
  Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const override;
  Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) override;

 private:
  CpuKvCache(const KvShape& shape, std::shared_ptr<ThreadPool> pool, Buffer buffer);

  struct Blocks {
    uint64_t n, shift;    // 2^shift positions each; one block has all
    uint64_t head_bytes;  // of a head in a block
  };
  static Blocks blocks_for(const KvLayout& layout, uint64_t capacity);

  const KvLayout layout_;
  const Blocks blocks_;
  const std::shared_ptr<ThreadPool> pool_;
  const Buffer buffer_;
};

}  // namespace finermoe
