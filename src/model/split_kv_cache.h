// The KV cache of a session whose layers are on several devices.
#pragma once

#include <memory>
#include <vector>

#include "backend/kv_cache.h"
#include "base/allocation.h"
#include "placement/placement.h"

namespace finermoe {

class SplitKvCache final : public KvCache {
 public:
  // A cache on each device, of its layers.
  static Result<std::unique_ptr<KvCache>> make(const Placement& placement, const KvShape& shape,
                                               std::shared_ptr<MemoryAccount> account, std::string_view what);

  KvCache& of_device(size_t device) const { return *parts_[device]; }

  uint64_t bytes() const override;
  Status copy_prefix(const KvCache& from, size_t n) override;
  Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) override;
  Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const override;
  Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) override;

 private:
  // Where a head is: heads are numbered through the layers of each part too.
  struct Place {
    KvCache* part;
    uint64_t head;
  };
  SplitKvCache(const KvShape& shape, std::vector<std::unique_ptr<KvCache>> parts, std::vector<uint8_t> device_of_layer);
  Place place_of(uint64_t head) const;

  const std::vector<std::unique_ptr<KvCache>> parts_;  // of each device; null if it has no layer
  std::vector<Place> first_heads_;                     // of each layer
};

}  // namespace finermoe
