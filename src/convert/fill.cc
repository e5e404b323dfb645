#include "convert/fill.h"

#include <algorithm>
#include <cstring>

#include "convert/encode.h"

namespace finermoe {

Slice Slice::whole(const Tensor& source) { return {&source, 0, 0, source.columns ? source.columns : source.rows}; }

void Slice::copy(uint64_t begin, uint64_t end, std::byte* out) const {
  uint64_t size = size_of(source->dtype), stride = source_columns();
  if (columns == stride) {
    std::memcpy(out, source->data + (first_row * stride + begin) * size, (end - begin) * size);
    return;
  }
  for (uint64_t at = begin; at < end;) {
    uint64_t row = at / columns, column = at % columns, n = std::min(columns - column, end - at);
    std::memcpy(out, source->data + ((first_row + row) * stride + first_column + column) * size, n * size);
    out += n * size;
    at += n;
  }
}

void store(DType dtype, std::byte* data, uint64_t index, float value) {
  if (dtype == DType::f32) {
    std::memcpy(data + index * sizeof value, &value, sizeof value);
    return;
  }
  uint16_t bits = dtype == DType::bf16 ? float_to_bf16(value) : float_to_f16(value);
  std::memcpy(data + index * sizeof bits, &bits, sizeof bits);
}

Fill copy_fill(const Slice& slice, float scale) {
  if (scale == 1) return [slice](uint64_t begin, uint64_t end, std::byte* out) { slice.copy(begin, end, out); };
  return [slice, scale](uint64_t begin, uint64_t end, std::byte* out) {
    slice.copy(begin, end, out);
    DType dtype = slice.source->dtype;
    for (uint64_t i = 0; i < end - begin; ++i) store(dtype, out, i, load_element(dtype, out, i) * scale);
  };
}

Fill constant_fill(DType dtype, float value) {
  return [dtype, value](uint64_t begin, uint64_t end, std::byte* out) {
    for (uint64_t i = 0; i < end - begin; ++i) store(dtype, out, i, value);
  };
}

Fill normal_fill(DType dtype, uint64_t key, double deviation) {
  return [dtype, key, deviation](uint64_t begin, uint64_t end, std::byte* out) {
    RandomStream random(key, begin);
    for (uint64_t i = 0; i < end - begin; ++i) store(dtype, out, i, static_cast<float>(deviation * random.normal()));
  };
}

Fill normal_blocks_fill(DType dtype, uint64_t key, double deviation, uint64_t rows, uint64_t columns) {
  return [=](uint64_t begin, uint64_t end, std::byte* out) {
    RandomStream random(key, begin);
    const uint64_t blocks = blocks_of(columns);
    for (uint64_t i = begin; i < end; ++i, out += block_bytes(dtype)) {
      const uint64_t n_rows = std::min<uint64_t>(panel_rows, rows - i / blocks * panel_rows);
      const uint64_t n_columns = std::min<uint64_t>(block_columns, columns - i % blocks * block_columns);
      BlockWeights weights = {};
      for (uint64_t r = 0; r < n_rows; ++r) {
        for (uint64_t c = 0; c < n_columns; ++c) weights[r][c] = static_cast<float>(deviation * random.normal());
      }
      encode_block(dtype, weights, out);  // which accepts all of these
    }
  };
}

Fill repeated_row_fill(DType dtype, uint64_t key, double deviation, uint64_t columns, uint64_t repeat) {
  return [=](uint64_t begin, uint64_t end, std::byte* out) {
    for (uint64_t at = begin; at < end;) {
      uint64_t row = at / columns, row_end = std::min((row + 1) * columns, end);
      RandomStream random(key, row / repeat);
      for (uint64_t i = row * columns; i < row_end; ++i) {
        float value = static_cast<float>(deviation * random.normal());
        if (i >= at) store(dtype, out, i - begin, value);
      }
      at = row_end;
    }
  };
}

}  // namespace finermoe
