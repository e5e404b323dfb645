// Expert usage as a picture.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tool {

struct UsageMap {
  std::string model;  // its name, for the title
  uint64_t n_tokens = 0;
  uint64_t n_experts_per_token = 0;
  std::vector<size_t> layers;                 // the model's own layer indices
  std::vector<std::vector<uint64_t>> counts;  // [layers, experts]
};

// An SVG drawing with a row per layer and a column per expert, colored by how often the expert was chosen relative to
// an even share.
std::string draw_heat_map(const UsageMap& map);

}  // namespace tool
