// The KV cache on a device: KvLayout says how.
#pragma once

#include "backend/kv_cache.h"
#include "cuda/context.h"
#include "cuda/kernels.h"

namespace finermoe::cuda {

class CudaKvCache final : public KvCache {
 public:
  static uint64_t bytes(const KvShape& shape);  // UINT64_MAX on overflow
  static Result<std::unique_ptr<CudaKvCache>> make(std::shared_ptr<const Context> context, const KvShape& shape,
                                                   std::shared_ptr<MemoryAccount> account, std::string_view what);

  KvView view() const { return {reinterpret_cast<std::byte*>(memory_.address()), layout_}; }

  uint64_t bytes() const override { return memory_.size(); }
  Status copy_prefix(const KvCache& from, size_t n) override;
  Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) override;
  Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const override;
  Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) override;

 private:
  CudaKvCache(std::shared_ptr<const Context> context, const KvShape& shape, Memory memory);
  // Addresses of a position's elements (Q8: codes), and of its scales.
  Address vectors_at(uint64_t head, uint64_t position) const {
    return memory_.address() + head * layout_.head_bytes() + position * layout_.vector_bytes();
  }
  Address scales_at(uint64_t head, uint64_t position) const {
    return memory_.address() + head * layout_.head_bytes() + layout_.scales_at() + position * layout_.scale_bytes();
  }

  const std::shared_ptr<const Context> context_;
  const KvLayout layout_;
  const Memory memory_;  // heads, and behind them room for the angles of move_down
};

}  // namespace finermoe::cuda
