// Rotary position embedding (RoPE): the frequencies, and the ways to scale them for more positions than in training.
// Names and arithmetic are those of transformers.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/status.h"

namespace finermoe {

class Fields;

enum class RopeScaling { none, linear, yarn, llama3 };

struct Rope {
  RopeScaling scaling = RopeScaling::none;
  double theta = 10000;           // the base of the frequencies
  double factor = 1;              // the divisor of those frequencies that are scaled
  double attention_factor = 1;    // multiplies cosines and sines (yarn)
  double original_positions = 0;  // that the model was trained for (yarn, llama3)
  double beta_fast = 0;           // yarn: frequencies with more rotations than this are kept,
  double beta_slow = 0;           //   those with fewer than this divided, with a ramp in between,
  bool truncate = true;           //   whose ends are rounded to whole indices
  double low_freq_factor = 0;     // llama3: wavelengths over original_positions / low_freq_factor are divided,
  double high_freq_factor = 0;    //   those below original_positions / high_freq_factor kept

  // From a config.json; `name` is used in messages, `max_positions` its max_position_embeddings.
  static Result<Rope> parse(const Fields& fields, std::string_view name, uint64_t max_positions, uint64_t head_size);

  const char* scaling_name() const;
  // The number of positions with scaling; at least `max_positions`.
  uint64_t scaled_positions(uint64_t max_positions) const;
  // out [head_size / 2], in radians per position
  void frequencies(uint64_t head_size, std::span<float> out) const;
  // Cosines and sines of some positions, in float32, as the authors have them.
  //   frequencies [d / 2]; cos, sin [positions, d / 2]
  void rotations(std::span<const float> frequencies, std::span<const uint32_t> positions, float* cos, float* sin) const;
  // Of the angle that turns the key of a position into that of n positions less: [head_size / 2] each.
  void turns_back(uint64_t head_size, uint64_t n, std::span<float> cos, std::span<float> sin) const;
};

}  // namespace finermoe
