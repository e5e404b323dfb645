// How a token is chosen, and the allowed range of each number.
#pragma once

#include <array>
#include <cstdint>
#include <unordered_map>

namespace finermoe {

struct SamplingOptions {
  double temperature = 0;  // 0: greedy
  uint64_t top_k = 0;      // 0: all
  double top_p = 1, min_p = 0, typical_p = 1;
  double repetition_penalty = 1, frequency_penalty = 0, presence_penalty = 0;
  uint64_t seed = 0;
  std::unordered_map<int32_t, float> logit_bias;  // -infinity bans a token
};

// The allowed range of a sampling option.
struct SamplingRange {
  double SamplingOptions::*number;
  const char* name;
  bool (*holds)(double);
  const char* range;
};
extern const std::array<SamplingRange, 7> sampling_ranges;
bool is_bias(float bias);
constexpr const char* bias_range = "-1e6 to 1e6, or -INFINITY";

}  // namespace finermoe
