#include "convert/encode.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

namespace finermoe {
namespace {

// Bits of the largest magnitude among the weights: those of infinity and NaN are above all others.
uint32_t largest_of(const float* x) {
  uint32_t largest = 0;
  for (size_t c = 0; c < block_columns; c++) {
    const uint32_t magnitude = std::bit_cast<uint32_t>(x[c]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  return largest;
}

// The scale as float16 into the block, and what it has become; nullopt where that is infinite.
std::optional<float> store_scale(uint16_t half, size_t row, std::byte* block) {
  if ((half & 0x7fff) == 0x7c00) return std::nullopt;
  std::memcpy(block + row * sizeof half, &half, sizeof half);
  return f16_to_float(half);
}

float inverse_of(float scale) { return scale == 0 ? 0 : 1 / scale; }

// The place of the codes of columns [column, column + 4).
std::byte* codes_at(std::byte* block, size_t column, size_t row) {
  return block + block_scale_bytes + column / 4 * 64 + row * 4;
}

// Four numbers side by side, as every 64-bit processor can compute with them.
using Lanes = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));
constexpr size_t n_lanes = block_columns / 4;  // of a row

float sum(Lanes s) { return (s[0] + s[1]) + (s[2] + s[3]); }

// Adding this rounds to a whole number, ties to even, and leaves it in the low bits.
constexpr float round_by = 0x1.8p23f;

// What the largest magnitude is tried as, in units of the scale. How well a scale suits the weights of a row is chance:
// the best of eight leaves a fifth less squared error than the first.
constexpr float q8_candidates[] = {127, 126, 125, 124, 123, 122, 121, 120};

uint16_t choose_q8_scale(const Lanes* x, float largest) {
  uint16_t best = float_to_f16(largest / 127);
  // Below the normal range a scale may be rounded down by so much that the largest code would be above 127.
  const auto fits = [largest](float scale) { return largest <= 127.4f * scale; };
  if (!fits(f16_to_float(best))) best++;
  float least = INFINITY;
  for (const float candidate : q8_candidates) {
    const uint16_t half = float_to_f16(largest / candidate);
    const float scale = f16_to_float(half);
    if (scale == 0 || !fits(scale)) continue;
    Lanes error{};
    for (size_t i = 0; i < n_lanes; i++) {
      const Lanes scaled = x[i] * (1 / scale), rest = (scaled - ((scaled + round_by) - round_by)) * scale;
      error += rest * rest;
    }
    if (const float total = sum(error); total < least) {
      least = total;
      best = half;
    }
  }
  return best;
}

bool encode_q8(const float* x, float largest, size_t row, std::byte* block) {
  Lanes lanes[n_lanes];
  std::memcpy(lanes, x, sizeof lanes);
  const std::optional<float> stored = store_scale(choose_q8_scale(lanes, largest), row, block);
  if (!stored) return false;
  const float inverse = inverse_of(*stored);
  for (size_t i = 0; i < n_lanes; i++) {
    const Words codes = reinterpret_cast<Words>(lanes[i] * inverse + round_by) + 128;
    for (size_t c = 0; c < 4; c++) codes_at(block, 4 * i, row)[c] = static_cast<std::byte>(codes[c]);
  }
  return true;
}

// The codebook by places on a line: the middles between two of its values are multiples of a half.
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
  // Where the values nearest to y lie, by floor(2 y) + 512; what is not in [-256, 256) gets any place.
  static Words places_of(Lanes y) {
    const Lanes rounded = 2 * y - 0.5f + (round_by + 512);  // rounded to a whole number, which is in the low bits
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

// How well x = scale * v can be, where v are the values nearest to x * inverse: the best scale for them is
// dot / square, and the squared error that it leaves is the smaller the larger dot^2 / square.
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

// What the weight of the largest magnitude is tried as, in units of the scale; the best is then refined once. On
// normal, heavy-tailed and trained weights this comes within 0.3 % of the least error of any scale.
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
  static const Codebook codebook;
  for (size_t row = 0; row < panel_rows; row++) {
    const float* x = weights[row];
    const uint32_t largest_bits = largest_of(x);
    if (largest_bits >= 0x7f800000u) return false;
    const float largest = std::bit_cast<float>(largest_bits);
    const bool stored =
        dtype == DType::q8 ? encode_q8(x, largest, row, block) : encode_q4(x, largest, codebook, row, block);
    if (!stored) return false;
  }
  return true;
}

}  // namespace finermoe
