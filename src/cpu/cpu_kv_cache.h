// The KV cache on the CPU: contiguous heads, each with the layout of KvLayout.
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

  // The keys or the values of one head.
  std::byte* head(uint64_t index) const { return buffer_.data() + index * layout_.head_bytes(shape().capacity); }
  std::byte* head(uint64_t layer, KvKind kind, uint64_t kv_head) const {
    return head((layer * 2 + (kind == KvKind::value)) * shape().n_kv_heads + kv_head);
  }
  const KvLayout& layout() const { return layout_; }

  uint64_t bytes() const override { return buffer_.size(); }
  Status copy_prefix(const KvCache& from, size_t n) override;
  Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) override;
  Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const override;
  Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) override;

 private:
  CpuKvCache(const KvShape& shape, std::shared_ptr<ThreadPool> pool, Buffer buffer);

  const KvLayout layout_;
  const std::shared_ptr<ThreadPool> pool_;
  const Buffer buffer_;
};

}  // namespace finermoe
