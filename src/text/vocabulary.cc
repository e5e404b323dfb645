#include "text/vocabulary.h"

#include <bit>
#include <functional>

namespace finermoe {
namespace {

uint32_t hash_of(std::string_view bytes) { return static_cast<uint32_t>(std::hash<std::string_view>()(bytes)); }

}  // namespace

Vocabulary::Vocabulary(size_t n_tokens) : slots_(std::bit_ceil(n_tokens * 2 + 2)) { spans_.reserve(n_tokens); }

void Vocabulary::set(int32_t id, std::string_view bytes) {
  if (static_cast<size_t>(id) >= spans_.size()) spans_.resize(static_cast<size_t>(id) + 1);
  spans_[id] = {arena_.size(), static_cast<uint32_t>(bytes.size()), true};
  arena_ += bytes;
}

size_t Vocabulary::slot_of(std::string_view text) const {
  uint32_t hash = hash_of(text);
  size_t slot = hash & (slots_.size() - 1);
  while (slots_[slot].id >= 0 && (slots_[slot].hash != hash || bytes(slots_[slot].id) != text)) {
    slot = (slot + 1) & (slots_.size() - 1);
  }
  return slot;
}

void Vocabulary::index(int32_t id) { slots_[slot_of(bytes(id))] = {hash_of(bytes(id)), id}; }

int32_t Vocabulary::find(std::string_view text) const { return slots_[slot_of(text)].id; }

}  // namespace finermoe
