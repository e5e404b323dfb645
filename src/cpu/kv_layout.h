// The layout of a KV cache in the host's memory: the order in which kernels read it.
//
// The vectors of one head, keys or values, are stored in panels of 16 positions. A vector is padded with zeros to a
// multiple of 16 columns (Q8: 32), its width. Neighbors along the reduction dimension are contiguous, as many as an
// instruction multiplies and adds at once: f = 1 for F32 and F16, 2 for BF16, 4 for Q8.
//   keys      [width / f][16 positions][f]    f adjacent columns
//   values    [16 / f][width][f]              f adjacent positions
// In Q8 the columns are split into contiguous blocks of 32, each with the float16 scales of the 16 positions and then
// codes as above, one byte each: value + 128 for keys (they are a Q8 matrix, base/blocks.h), int8 for values. An
// element is scale * value with -127 <= value <= 127.
//
// KvShape::vector_bytes() describes an individual vector.
#pragma once

#include "backend/kv_cache.h"
#include "base/blocks.h"

namespace finermoe {

class KvLayout {
 public:
  KvLayout(DType dtype, uint64_t head_size) : dtype_(dtype), head_size_(head_size) {}

  uint64_t width() const;
  uint64_t panel_bytes() const;
  // Of the keys or the values of one head: whole panels.
  uint64_t head_bytes(uint64_t n_positions) const { return panels_of(n_positions) * panel_bytes(); }
  // Of an individual vector.
  uint64_t vector_bytes() const { return KvShape{1, 1, head_size_, 0, dtype_}.vector_bytes(); }

  // x [head_size] in 8 bits. A block with a value that is not finite becomes NaN.
  void quantize(const float* x, std::byte* vector) const;
  // x [head_size] as the vector of any type.
  void encode(const float* x, std::byte* vector) const;
  void put(KvKind kind, const std::byte* vector, uint64_t position, std::byte* head) const;
  void get(KvKind kind, const std::byte* head, uint64_t position, std::byte* vector) const;
  // out [head_size]
  void decode(KvKind kind, const std::byte* head, uint64_t position, float* out) const;

 private:
  template <class Visit>
  void for_each_part(KvKind kind, uint64_t position, Visit visit) const;

  DType dtype_;
  uint64_t head_size_;
};

}  // namespace finermoe
