#include "convert/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

namespace finermoe {
namespace {

// The bits of the largest magnitude among the weights; infinity and NaN compare above all others.
uint32_t largest_of(const float* x) {
  uint32_t largest = 0;
  for (size_t c = 0; c < block_columns; c++) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[c]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

// Stores the scale as float16 in the block and returns its rounded value; nullopt if that is infinite.
std::optional<float> store_scale(uint16_t half, size_t row, std::byte* block) {
  if ((half & 0x7fff) == 0x7c00) return std::nullopt;
  std::memcpy(block + row * sizeof half, &half, sizeof half);
  return f16_to_float(half);
}

float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// The address of the codes of columns [column, column + 4).
std::byte* codes_at(std::byte* block, size_t column, size_t row) {
  return block + block_scale_bytes + column / 4 * 64 + row * 4;
}

// A SIMD vector of four floats, which every 64-bit processor supports.
using Lanes = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
constexpr size_t n_lanes = block_columns / 4;  // of a row

float sum(Lanes s) { return (s[0] + s[1]) + (s[2] + s[3]); }

// Adding this rounds to an integer, ties to even, and leaves it in the low bits.
constexpr float round_by = 0x1.8p23f;

// The sixteen rows of a block as one SIMD vector; the compiler splits it into the processor's vectors.
using Rows = float __attribute__((vector_size(64)));
using RowWords = uint32_t __attribute__((vector_size(64)));

// The values tried for a row's largest magnitude, in units of the scale. How well a scale fits the weights is chance:
// the best of four leaves a seventh less squared error than the first.
constexpr float q8_candidates[] = {127, 126, 125, 124};

// A row's scale as float16, and its value.
struct Q8Scale {
  uint16_t half;
  float value;

  Q8Scale(float largest, float candidate) : half(float_to_f16(largest / candidate)) {
    // A subnormal scale may be rounded down so far that the largest code would exceed 127.
    if (largest > 127.4f * f16_to_float(half)) half++;
    value = f16_to_float(half);
  }
};

bool encode_q8(const BlockWeights& weights, const float* largest, std::byte* block) {
  Rows x[block_columns], inverse{}, scale{};
  for (size_t row = 0; row < panel_rows; row++) {
    for (size_t c = 0; c < block_columns; c++) x[c][row] = weights[row][c];
  }
  Rows best = Rows{} + INFINITY, best_inverse{};
  uint16_t halves[panel_rows];
  for (const float candidate : q8_candidates) {
    uint16_t tried[panel_rows];
    for (size_t row = 0; row < panel_rows; row++) {
      const Q8Scale of_row(largest[row], candidate);
      tried[row] = of_row.half;
      scale[row] = of_row.value;
      inverse[row] = inverse_of(of_row.value);
    }
    Rows error{};
    for (const Rows& column : x) {
      const Rows scaled = column * inverse, rest = scaled - ((scaled + round_by) - round_by);
      error += rest * rest;
    }
    error *= scale * scale;
    for (size_t row = 0; row < panel_rows; row++) {
      if (candidate != q8_candidates[0] && !(error[row] < best[row])) continue;
      best[row] = error[row];
      best_inverse[row] = inverse[row];
      halves[row] = tried[row];
    }
  }
  for (size_t row = 0; row < panel_rows; row++) {
    if (!store_scale(halves[row], row, block)) return false;
  }
  for (size_t c = 0; c < block_columns; c += 4) {
    RowWords codes{};
    for (size_t i = 0; i < 4; i++) {
      codes |= ((reinterpret_cast<RowWords>(x[c + i] * best_inverse + round_by) + 128) & 255) << (8 * i);
    }
    std::memcpy(codes_at(block, c, 0), &codes, sizeof codes);
  }
  return true;
}

// The codebook as a lookup table: the midpoints between adjacent values are multiples of a half.
class Codebook {
 public:
  Codebook() {
    uint8_t code = 0;
    for (int i = 0; i < 1024; i++) {
      while (code < 15 && i - 512 >= q4_values[code] + q4_values[code + 1]) code++;
      codes_[i] = code;
      values_[i] = static_cast<float>(q4_values[code]);
    }
  }
  // The table indices of the values nearest to y: floor(2 y) + 512; arbitrary for y outside [-256, 256).
  static Words places_of(Lanes y) {
    const Lanes rounded = 2 * y - 0.5f + (round_by + 512);  // rounded to an integer in the low bits
    return reinterpret_cast<Words>(rounded) & 1023;
  }
  Lanes values(Words places) const {
    return Lanes{values_[places[0]], values_[places[1]], values_[places[2]], values_[places[3]]};
  }
  uint8_t code(uint32_t place) const { return codes_[place]; }

 private:
  float values_[1024];
  uint8_t codes_[1024];
};

// How well x can be approximated by scale * v, where v are the values nearest to x * inverse: the best scale for them
// is dot / square, and the larger dot^2 / square, the smaller the squared error.
struct Fit {
  float dot, square;  // sums of x * v and of v^2
  float explained() const { return dot * dot / square; }
};

Fit fit(const Lanes* x, float inverse, const Codebook& codebook) {
  Lanes dot{}, square{};
  for (size_t i = 0; i < n_lanes; i++) {
    const Lanes values = codebook.values(Codebook::places_of(x[i] * inverse));
    dot += x[i] * values;
    square += values * values;
  }
  return {sum(dot), sum(square)};
}

// The values tried for the weight of the largest magnitude, in units of the scale; the best is then refined once. On
// normal, heavy-tailed and trained weights this comes within 0.3 % of the error of the best possible scale.
constexpr float candidates[] = {-136, -128, -124, -120, -104, -96, 84, 100, 108, 116};

bool encode_q4(const float* x, float largest, const Codebook& codebook, size_t row, std::byte* block) {
  Lanes lanes[n_lanes], relative[n_lanes];
  std::memcpy(lanes, x, sizeof lanes);
  float scale = 0;
  if (largest > 0x1p-24f) {  // the smallest scale; far below it, an inverse would be infinite
    const float extreme = std::find(x, x + block_columns, largest) != x + block_columns ? largest : -largest;
    for (size_t i = 0; i < n_lanes; i++) relative[i] = lanes[i] * (1 / extreme);
    Fit best = fit(relative, candidates[0], codebook);
    const auto improve = [&](float inverse) {
      const Fit other = fit(relative, inverse, codebook);
      if (other.explained() > best.explained()) best = other;
    };
    for (size_t i = 1; i < std::size(candidates); i++) improve(candidates[i]);
    improve(best.square / best.dot);
    scale = best.dot / best.square * extreme;
  }
  const std::optional<float> stored = store_scale(float_to_f16(scale), row, block);
  if (!stored) return false;
  const float inverse = inverse_of(*stored);
  for (size_t i = 0; i < n_lanes / 2; i++) {
    const Words low = Codebook::places_of(lanes[i] * inverse);
    const Words high = Codebook::places_of(lanes[i + n_lanes / 2] * inverse);
    uint8_t codes[4];
    for (size_t c = 0; c < 4; c++) {
      codes[c] = static_cast<uint8_t>(codebook.code(low[c]) | codebook.code(high[c]) << 4);
    }
    std::memcpy(codes_at(block, 4 * i, row), codes, sizeof codes);
  }
  return true;
}

}  // namespace

bool encode_block(DType dtype, const BlockWeights& weights, std::byte* block) {
  float largest[panel_rows];
  for (size_t row = 0; row < panel_rows; row++) {
    const uint32_t bits = largest_of(weights[row]);
    if (bits >= 0x7f800000u) return false;
    largest[row] = std::bit_cast<float>(bits);
  }
  if (dtype == DType::q8) return encode_q8(weights, largest, block);
  static const Codebook codebook;
  for (size_t row = 0; row < panel_rows; row++) {
    if (!encode_q4(weights[row], largest[row], codebook, row, block)) return false;
  }
  return true;
}

}  // namespace finermoe
