// model.safetensors.index.json: which file holds which tensor.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/status.h"

namespace finermoe {

struct ShardIndex {
  std::vector<std::string> files;                         // sorted
  std::vector<std::pair<std::string, uint32_t>> tensors;  // name, and its file in `files`

  // Removes a file, and the tensors said to be in it.
  void erase(uint32_t file);

  // {"metadata": anything, "weight_map": {"model.norm.weight": "model-00001-of-00002.safetensors", …}}
  static Result<ShardIndex> parse(std::string_view json, std::string_view name);
};

}  // namespace finermoe
