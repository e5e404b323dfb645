#include "base/blocks.h"

#include <cstring>

namespace finermoe {

const int8_t q4_values[16] = {-127, -99, -77, -60, -45, -32, -20, -9, 1, 10, 20, 32, 46, 61, 80, 106};

void decode_row(DType dtype, const std::byte* panel, size_t row, std::span<float> out) {
  const auto* block = reinterpret_cast<const uint8_t*>(panel);
  for (size_t begin = 0; begin < out.size(); begin += block_columns, block += block_bytes(dtype)) {
    uint16_t bits;
    std::memcpy(&bits, block + row * sizeof bits, sizeof bits);
    const float scale = f16_to_float(bits);
    const uint8_t* codes = block + block_scale_bytes;
    for (size_t c = 0; c < block_columns && begin + c < out.size(); c++) {
      int value;
      if (dtype == DType::q8) {
        value = codes[c / 4 * 64 + row * 4 + c % 4] - 128;
      } else {
        value = q4_values[codes[c % 16 / 4 * 64 + row * 4 + c % 4] >> (c < 16 ? 0 : 4) & 15];
      }
      out[begin + c] = scale * static_cast<float>(value);
    }
  }
}

}  // namespace finermoe
