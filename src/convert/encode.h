// Encoders of the block formats. Plain arithmetic in a fixed order: the same bytes on every machine.
#pragma once

#include "base/blocks.h"

namespace finermoe {

// The weights of a block; zeros beyond the end of the matrix.
using BlockWeights = float[panel_rows][block_columns];

// A row's scale is the one with the least squared error that a short search finds; in Q4 it may be negative. False if a
// weight is NaN, infinite, or too large for a float16 scale.
bool encode_block(DType dtype, const BlockWeights& weights, std::byte* block);

}  // namespace finermoe
