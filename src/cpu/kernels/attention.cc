// Attention in float32, from a cache of any type; and the choice of the kernel.
#include "cpu/kernels/attention_tiles.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

// Few queries read the cache in place; for many it is converted once.
template <DType D>
void in_floats(const AttentionTask& t) {
  if constexpr (D != DType::q8) {
    if (D == DType::f32 || t.n <= query_group) return attend<TileProducts<Floats<D>, CacheTiles<Floats<D>>>>(t);
  }
  if constexpr (D != DType::f32) {
    attend<TileProducts<Floats<DType::f32>, ConvertedTiles<D, Floats<DType::f32>>>>(t);
  }
}

}  // namespace

void attention(const AttentionTask& t) {
  const bool few = t.n <= query_group;
  if (few && t.dtype == DType::q8) return attention_codes(t);
#if defined(__AVX512BF16__)
  if (t.quantized && t.bf16_dots && (!few || t.dtype == DType::bf16)) return attention_pairs(t);
#endif
  switch (t.dtype) {
    case DType::f32:
      return in_floats<DType::f32>(t);
    case DType::f16:
      return in_floats<DType::f16>(t);
    case DType::bf16:
      return in_floats<DType::bf16>(t);
    default:
      return in_floats<DType::q8>(t);
  }
}

size_t attention_scratch(size_t head_size) {
  using Converted = ConvertedTiles<DType::q8, Floats<DType::f32>>;  // any type needs the same
  size_t bytes = attend_scratch<TileProducts<Floats<DType::f32>, Converted>>(attention_max_queries, head_size);
  bytes = larger(bytes, attention_codes_scratch(head_size));
#if defined(__AVX512BF16__)
  bytes = larger(bytes, attention_pairs_scratch(head_size));
#endif
  return bytes;
}

}  // namespace finermoe::FINERMOE_KERNELS
