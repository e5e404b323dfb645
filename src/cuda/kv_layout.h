// How a KV cache lies in a device's memory: heads one behind the other (KvShape says in which order), each with the
// vectors of its positions one behind the other. In Q8 the codes of all positions come first, 32 for each block, and
// then their float16 scales.
#pragma once

#include "base/blocks.h"

namespace finermoe::cuda {

struct KvLayout {
  DType dtype = DType::f32;
  uint64_t head_size = 0, capacity = 0;

  constexpr uint64_t n_blocks() const { return blocks_of(head_size); }
  // Of the elements, or codes, of one position.
  constexpr uint64_t vector_bytes() const {
    return dtype == DType::q8 ? n_blocks() * block_columns : head_size * size_of(dtype);
  }
  constexpr uint64_t scale_bytes() const { return dtype == DType::q8 ? n_blocks() * sizeof(uint16_t) : 0; }
  constexpr uint64_t scales_at() const { return round_up(capacity * vector_bytes()); }
  constexpr uint64_t head_bytes() const { return scales_at() + round_up(capacity * scale_bytes()); }

 private:
  static constexpr uint64_t round_up(uint64_t bytes) { return (bytes + 63) / 64 * 64; }
};

}  // namespace finermoe::cuda
