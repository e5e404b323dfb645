// Small checkpoints made byte by byte.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include <nlohmann/json.hpp>

#include "../support/temporary_directory.h"
#include "format/checkpoint.h"
#include "format/tensor_table.h"

namespace finermoe {

inline std::string source_path(const std::string& path) {
  const char* root = std::getenv("FINERMOE_SOURCE");
  return std::string(root ? root : ".") + "/" + path;
}

inline std::string read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_file(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// The smallest model with everything in it: one layer of four experts, a shared one, both projections.
inline nlohmann::json small_config() {
  return nlohmann::json::parse(R"({
    "model_type": "finer_moe", "torch_dtype": "bfloat16", "hidden_size": 4, "intermediate_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 5,
    "max_position_embeddings": 16, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
    "G_I": 1, "R_I": 1, "G_O": 2, "R_O": 2, "num_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 3, "shared_expert_intermediate_size": 6, "moe_concat_proj": true,
    "router_type": "separate"})");
}

// The tensors of a safetensors file, as the header has them.
inline nlohmann::json tensors_of(const Config& config, const std::string& dtype = "BF16") {
  nlohmann::json header = nlohmann::json::object();
  uint64_t offset = 0, size = dtype == "F32" ? 4 : 2;
  Status status = for_each_tensor(config, [&](const TensorSpec& spec) {
    nlohmann::json shape = nlohmann::json::array({spec.rows});
    if (spec.columns != 0) shape.push_back(spec.columns);
    uint64_t end = offset + spec.elements() * size;
    header[std::string(spec.name)] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {offset, end}}};
    offset = end;
    return Status();
  });
  EXPECT_TRUE(status.ok());
  return header;
}

inline uint64_t data_size(const nlohmann::json& header) {
  uint64_t size = 0;
  for (const auto& [name, tensor] : header.items()) {
    if (name != "__metadata__") size = std::max(size, tensor["data_offsets"][1].get<uint64_t>());
  }
  return size;
}

// Data of `n` bytes behind a header's text, which is padded to a multiple of 8.
inline std::string safetensors_file(std::string text, uint64_t n) {
  text.append((8 - text.size() % 8) % 8, ' ');
  std::string bytes;
  for (uint64_t size = text.size(), i = 0; i < 8; i++) bytes += static_cast<char>(size >> 8 * i & 0xff);
  return bytes + text + std::string(n, '\0');
}

inline std::string safetensors_file(const nlohmann::json& header) {
  return safetensors_file(header.dump(), data_size(header));
}

inline Config parse_config(const nlohmann::json& config) {
  Result<Config> result = Config::parse(config.dump(), "config.json");
  EXPECT_TRUE(result.ok()) << result.status().message();
  return result.ok() ? *result : Config();
}

inline Checkpoint::Options options() { return {false, std::make_shared<MemoryAccount>(0), {}}; }

inline Result<std::shared_ptr<const Checkpoint>> open(const std::string& path) {
  return Checkpoint::open(path, options());
}

// A message is there, has one line, and holds each of the parts.
inline void expect_error(const Status& status, Code code, std::initializer_list<std::string_view> parts) {
  EXPECT_EQ(status.code(), code) << status.message();
  EXPECT_FALSE(status.message().empty());
  EXPECT_EQ(status.message().find('\n'), std::string::npos);
  EXPECT_FALSE(status.expected().empty()) << status.message();
  EXPECT_FALSE(status.found().empty()) << status.message();
  for (std::string_view part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << part << " is not in: " << status.message();
  }
}

}  // namespace finermoe
