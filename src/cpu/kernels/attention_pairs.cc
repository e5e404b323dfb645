// Attention with queries, keys, probabilities and values in BF16. One instruction multiplies and adds pairs; this is
// compiled for sets that have it.
#include "cpu/kernels/attention_tiles.h"
#include "cpu/kernels/pairs.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

template <DType D>
void converted(const AttentionTask& t) {
  attend<TileProducts<Pairs, ConvertedTiles<D, Pairs>>>(t);
}

}  // namespace

void attention_pairs(const AttentionTask& t) {
  switch (t.dtype) {
    case DType::f32:
      return converted<DType::f32>(t);
    case DType::f16:
      return converted<DType::f16>(t);
    case DType::bf16:
      return attend<TileProducts<Pairs, CacheTiles<Pairs>>>(t);
    default:
      return converted<DType::q8>(t);
  }
}

size_t attention_pairs_scratch(size_t head_size) {
  return attend_scratch<TileProducts<Pairs, ConvertedTiles<DType::f32, Pairs>>>(attention_max_queries, head_size);
}

}  // namespace finermoe::FINERMOE_KERNELS
