#include "backend/kv_cache.h"

#include "base/blocks.h"

namespace finermoe {

uint64_t KvShape::vector_bytes() const {
  return dtype == DType::q8 ? blocks_of(head_size) * (block_columns + sizeof(uint16_t)) : head_size * size_of(dtype);
}

}  // namespace finermoe
