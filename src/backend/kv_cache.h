// The keys and values of one session. Their layout in memory is up to the device; individual vectors have one common
// format, which saved sessions (docs/format.md) use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"
#include "base/status.h"
#include "format/config.h"

namespace finermoe {

enum class KvKind { key, value };

struct KvShape {
  uint64_t n_layers = 0, n_kv_heads = 0, head_size = 0;
  uint64_t capacity = 0;  // positions
  DType dtype = DType::f32;

  static KvShape of(const Config& config, uint64_t capacity, DType dtype) {
    return {config.n_layers, config.n_kv_heads, config.head_size, capacity, dtype};
  }
  // Heads are numbered through all layers: in each layer first the key heads, then the value heads.
  uint64_t n_heads() const { return n_layers * 2 * n_kv_heads; }
  KvKind kind_of(uint64_t head) const { return head / n_kv_heads % 2 == 0 ? KvKind::key : KvKind::value; }
  // Bytes of an individual vector: its [head_size] elements; in Q8, the float16 scale of each block of 32 elements,
  // then the blocks' codes as int8.
  uint64_t vector_bytes() const;
};

// Used by one thread at a time, and by none while a step that uses it is running.
class KvCache {
 public:
  virtual ~KvCache() = default;
  KvCache(const KvCache&) = delete;
  const KvShape& shape() const { return shape_; }
  virtual uint64_t bytes() const = 0;

  // Copies the first n positions of a cache of the same device and shape (the capacity may differ).
  virtual Status copy_prefix(const KvCache& from, size_t n) = 0;
  // Moves the positions [begin, end) down by n, and rotates their keys back by n positions.
  virtual Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) = 0;
  // The vectors of one head at n positions from `begin`, each vector_bytes() long.
  virtual Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const = 0;
  virtual Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) = 0;

 protected:
  explicit KvCache(const KvShape& shape) : shape_(shape) {}

 private:
  const KvShape shape_;
};

}  // namespace finermoe
