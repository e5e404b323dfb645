// The block formats of quantized matrices (docs/format.md): Q8 with 8.5 and Q4 with 4.5 bits per weight.
//
// A matrix [rows, columns] is split into panels of 16 rows and a panel into blocks of 32 columns; padding beyond the
// matrix has no meaning. Panels, and the blocks of a panel, are contiguous. A block begins with a float16 scale for
// each row. Codes follow, such that 64 bytes hold 4 adjacent columns of all 16 rows:
//   Q8   byte [column / 4][row][column % 4] = value + 128, with -127 <= value <= 127
//   Q4   byte [column % 16 / 4][row][column % 4] = index of the value in q4_values; columns 0 to 15 of the block in the
//        low halves of the bytes, 16 to 31 in the high ones
// A weight is scale * value, in float32.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "base/dtype.h"

namespace finermoe {

constexpr size_t panel_rows = 16;
constexpr size_t block_columns = 32;
constexpr size_t block_scale_bytes = 32;
constexpr size_t q8_block_bytes = 544;
constexpr size_t q4_block_bytes = 288;

// The value of each Q4 code; ascending.
extern const int8_t q4_values[16];

constexpr uint64_t blocks_of(uint64_t columns) { return (columns + block_columns - 1) / block_columns; }
constexpr uint64_t panels_of(uint64_t rows) { return (rows + panel_rows - 1) / panel_rows; }
constexpr uint64_t block_bytes(DType dtype) { return dtype == DType::q8 ? q8_block_bytes : q4_block_bytes; }
// Bytes of a matrix of any type, or of a vector (columns 0), which has no block format.
constexpr uint64_t matrix_bytes(DType dtype, uint64_t rows, uint64_t columns) {
  if (is_blocked(dtype)) return panels_of(rows) * blocks_of(columns) * block_bytes(dtype);
  return rows * (columns == 0 ? 1 : columns) * size_of(dtype);
}

// out[c] = the weight in `row` (of the panel) and column c, for all columns of a panel.
void decode_row(DType dtype, const std::byte* panel, size_t row, std::span<float> out);

}  // namespace finermoe
