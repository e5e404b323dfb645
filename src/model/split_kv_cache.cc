#include "model/split_kv_cache.h"

#include <algorithm>

namespace finermoe {

Result<std::unique_ptr<KvCache>> SplitKvCache::make(const Placement& placement, const KvShape& shape,
                                                    std::shared_ptr<MemoryAccount> account, std::string_view what) {
  std::vector<std::unique_ptr<KvCache>> parts(placement.devices.size());
  for (size_t device = 0; device < parts.size(); device++) {
    KvShape of_device = shape;
    const std::vector<uint8_t>& layers = placement.device_of_layer;
    of_device.n_layers = static_cast<uint64_t>(std::count(layers.begin(), layers.end(), device));
    if (of_device.n_layers == 0) continue;
    FM_ASSIGN(parts[device], placement.devices[device].backend->make_kv_cache(of_device, account, what));
  }
  return std::unique_ptr<KvCache>(new SplitKvCache(shape, std::move(parts), placement.device_of_layer));
}

SplitKvCache::SplitKvCache(const KvShape& shape, std::vector<std::unique_ptr<KvCache>> parts,
                           std::vector<uint8_t> device_of_layer)
    : KvCache(shape), parts_(std::move(parts)) {
  std::vector<uint64_t> n_heads(parts_.size());
  for (const uint8_t device : device_of_layer) {
    first_heads_.push_back({parts_[device].get(), n_heads[device]});
    n_heads[device] += 2 * shape.n_kv_heads;
  }
}

SplitKvCache::Place SplitKvCache::place_of(uint64_t head) const {
  const uint64_t of_layer = 2 * shape().n_kv_heads;
  const Place& first = first_heads_[head / of_layer];
  return {first.part, first.head + head % of_layer};
}

uint64_t SplitKvCache::bytes() const {
  uint64_t bytes = 0;
  for (const auto& part : parts_) bytes += part ? part->bytes() : 0;
  return bytes;
}

Status SplitKvCache::copy_prefix(const KvCache& from, size_t n) {
  const auto& source = static_cast<const SplitKvCache&>(from);
  for (size_t device = 0; device < parts_.size(); device++) {
    if (parts_[device]) FM_TRY(parts_[device]->copy_prefix(*source.parts_[device], n));
  }
  return {};
}

Status SplitKvCache::move_down(size_t begin, size_t end, size_t n, const Rope& rope) {
  for (const auto& part : parts_) {
    if (part) FM_TRY(part->move_down(begin, end, n, rope));
  }
  return {};
}

Status SplitKvCache::read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const {
  const Place place = place_of(head);
  return place.part->read(place.head, begin, n, vectors);
}

Status SplitKvCache::write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) {
  const Place place = place_of(head);
  return place.part->write(place.head, begin, n, vectors);
}

}  // namespace finermoe
