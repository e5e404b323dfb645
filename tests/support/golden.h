// The outputs of the authors' code beside a checkpoint: expected.json and expected_logits.npz.
#pragma once

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace golden {

inline std::string source_root() {
  const char* root = std::getenv("FINERMOE_SOURCE");
  return root != nullptr ? root : ".";
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json expected(const std::string& model) {
  return nlohmann::json::parse(read_file(model + "/expected.json"));
}

// One float32 array of an uncompressed .npz, flattened.
inline std::vector<float> npz_array(const std::string& path, const std::string& name) {
  const std::string file = read_file(path);
  const size_t entry = file.find(name + ".npy"), start = file.find("\x93NUMPY", entry);
  if (entry == std::string::npos || start == std::string::npos) return {};
  uint16_t header_length;
  std::memcpy(&header_length, file.data() + start + 8, 2);
  const std::string header = file.substr(start + 10, header_length);
  size_t elements = 1;
  const char* shape = header.c_str() + header.find("'shape': (") + 10;
  while (*shape != ')') {
    char* end;
    elements *= std::strtoul(shape, &end, 10);
    for (shape = end; *shape == ',' || *shape == ' ';) shape++;
  }
  std::vector<float> values(elements);
  std::memcpy(values.data(), file.data() + start + 10 + header_length, elements * sizeof(float));
  return values;
}

inline std::vector<std::string> shape_models() {
  std::vector<std::string> models;
  for (const char* name : {"c32a2",
                           "dense-tied",
                           "dense-untied-sharded",
                           "du8a2",
                           "finermoe-32-1-2-2",
                           "finermoe-concat-proj",
                           "finermoe-dense-first",
                           "finermoe-go4-ro4",
                           "finermoe-no-shared",
                           "finermoe-norm-topk-f16",
                           "finermoe-odd-width",
                           "finermoe-separate-router",
                           "finermoe-step2",
                           "finermoe-ti2-ri2",
                           "inter-fg",
                           "no-fg",
                           "nvshard64a8",
                           "out-fg",
                           "qwen2-moe",
                           "qwen2-moe-norm-topk",
                           "s16a4"}) {
    models.push_back(source_root() + "/tests/data/shapes/" + name);
  }
  return models;
}
inline std::string trained(const char* name) { return source_root() + "/examples/models/" + name; }

}  // namespace golden
