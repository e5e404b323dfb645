// Attention with queries, keys, probabilities and values in BF16. One instruction multiplies and adds pairs; this is
// compiled for sets that have it.
#include "cpu/kernels/pairs.h"

namespace finermoe::FINERMOE_KERNELS {
namespace {

template <class Cache>
using PairProducts = TileProducts<Pairs, Cache>;

}  // namespace

void attention_pairs(const AttentionTask& t) { attend_in_pairs<PairProducts>(t); }

size_t attention_pairs_scratch(size_t head_size) { return attend_in_pairs_scratch<PairProducts>(head_size); }

}  // namespace finermoe::FINERMOE_KERNELS
