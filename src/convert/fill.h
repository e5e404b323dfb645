// What fills the parts of a planned tensor: slices of a source tensor, random numbers, constants.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>

#include "base/dtype.h"
#include "convert/random.h"
#include "format/checkpoint.h"

namespace finermoe {

using Fill = std::function<void(uint64_t begin, uint64_t end, std::byte* out)>;

// A range of rows and columns of a matrix, copied to a tensor. A vector is a matrix of one row.
struct Slice {
  const Tensor* source = nullptr;
  uint64_t first_row = 0, first_column = 0, columns = 0;

  static Slice whole(const Tensor& source);
  // The source's columns; a vector's are its elements.
  uint64_t source_columns() const { return source->columns ? source->columns : source->rows; }
  void copy(uint64_t begin, uint64_t end, std::byte* out) const;  // elements [begin, end) of the slice
};

void store(DType dtype, std::byte* data, uint64_t index, float value);

// Multiplies each element by `scale`, in float32, and rounds to the type of the source.
Fill copy_fill(const Slice& slice, float scale = 1);
Fill constant_fill(DType dtype, float value);
// Normal numbers with mean 0, from one stream per part.
Fill normal_fill(DType dtype, uint64_t key, double deviation);
// The same for a matrix in blocks, quantized as the quantizer does.
Fill normal_blocks_fill(DType dtype, uint64_t key, double deviation, uint64_t rows, uint64_t columns);
// Like normal_fill, but with one stream per row of `columns` elements, and each row repeated `repeat` times.
Fill repeated_row_fill(DType dtype, uint64_t key, double deviation, uint64_t columns, uint64_t repeat);

}  // namespace finermoe
