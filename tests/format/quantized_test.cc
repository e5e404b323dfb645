// Matrices in blocks of bytes: which are accepted, and which are not.
#include <gtest/gtest.h>

#include <random>

#include "base/json.h"
#include "format/quantization.h"
#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

const Json quantization = {{"quant_method", "finermoe"}, {"version", 1}};

Json quantized_config() {
  Json config = small_config();
  config["quantization_config"] = quantization;
  return config;
}

Json entry_of(uint64_t panels, uint64_t blocks, uint64_t block) {
  return {{"dtype", "U8"}, {"shape", {panels, blocks, block}}, {"data_offsets", {0, panels * blocks * block}}};
}

// Lays the tensors one behind the other.
void lay_out(Json& header) {
  uint64_t offset = 0;
  for (auto& [name, entry] : header.items()) {
    if (name == "__metadata__") continue;
    const uint64_t begin = entry["data_offsets"][0], end = entry["data_offsets"][1];
    entry["data_offsets"] = {offset, offset + (end - begin)};
    offset += end - begin;
  }
}

// Every matrix that may be in blocks is, in turn of Q8 and Q4.
Json quantized_tensors() {
  const Config config = parse_config(small_config());
  Json header = tensors_of(config);
  bool small = false;
  Status status = for_each_tensor(config, [&](const TensorSpec& spec) {
    if (!can_be_blocked(spec.kind)) return Status();
    header[std::string(spec.name)] = entry_of(panels_of(spec.rows), blocks_of(spec.columns), small ? 288 : 544);
    small = !small;
    return Status();
  });
  EXPECT_TRUE(status.ok());
  lay_out(header);
  return header;
}

std::string single_file(Json header, const Json& config = quantized_config()) {
  lay_out(header);
  header["__metadata__"] = {{"finermoe.config.json", config.dump()}};
  return safetensors_file(header);
}

Status status_of(const std::string& file) {
  std::unique_ptr<char[]> bytes(new char[file.size()]);  // of exactly this size, for a sanitizer to see
  std::copy(file.begin(), file.end(), bytes.get());
  return Checkpoint::open_memory(bytes.get(), file.size(), options()).status();
}

const std::string down = "model.layers.0.mlp.experts.2.down_proj.weight";  // [h / G_O, H_e] = [2, 3]

TEST(Quantized, MatricesHaveTheConfigurationsShape) {
  const std::string file = single_file(quantized_tensors());
  auto checkpoint = Checkpoint::open_memory(file.data(), file.size(), options());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  size_t n_blocked = 0;
  Status status = for_each_tensor((*checkpoint)->config(), [&](const TensorSpec& spec) {
    const Tensor& tensor = *(*checkpoint)->find(spec.name);
    EXPECT_EQ(tensor.rows, spec.rows);
    EXPECT_EQ(tensor.columns, spec.columns);
    EXPECT_EQ(is_blocked(tensor.dtype), can_be_blocked(spec.kind)) << spec.name;
    if (is_blocked(tensor.dtype)) {
      EXPECT_EQ(tensor.bytes(), tensor.dtype == DType::q8 ? 544u : 288u);
    }
    n_blocked += is_blocked(tensor.dtype);
    return Status();
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(n_blocked, 2u + 4 + 3 + 4 * 3 + 1);  // embedding and head, attention, shared expert, experts, projection
}

TEST(Quantized, WrongBlocks) {
  const Json good = quantized_tensors();
  const auto with_entry = [&](const std::string& name, const Json& entry) {
    Json header = good;
    header[name] = entry;
    return status_of(single_file(header));
  };
  EXPECT_TRUE(with_entry(down, entry_of(1, 1, 288)).ok());
  expect_error(with_entry(down, entry_of(2, 1, 544)), FINERMOE_ERROR_TENSOR_SHAPE, {down, "[2, 1]", "[1, 1]"});
  expect_error(with_entry(down, entry_of(1, 2, 288)), FINERMOE_ERROR_TENSOR_SHAPE, {down, "[1, 2]", "[1, 1]"});
  for (uint64_t block : {2, 286, 290, 542, 546, 1088}) {
    expect_error(with_entry(down, entry_of(1, 1, block)), FINERMOE_ERROR_TENSOR_DTYPE, {down, "U8"});
  }
  Json flat = entry_of(1, 1, 544), none = entry_of(0, 1, 544), larger = entry_of(1, 1, 544), signed_bytes = larger;
  flat["shape"] = {1, 544};
  larger["shape"] = {1, 2, 544};
  signed_bytes["dtype"] = "I8";
  expect_error(with_entry(down, flat), FINERMOE_ERROR_TENSOR_DTYPE, {down, "U8"});
  expect_error(with_entry(down, none), FINERMOE_ERROR_TENSOR_DTYPE, {down, "U8"});
  expect_error(with_entry(down, signed_bytes), FINERMOE_ERROR_TENSOR_DTYPE, {down, "I8"});
  expect_error(with_entry(down, larger), FINERMOE_ERROR_OFFSETS_INVALID, {down, "1088", "544"});
  larger["shape"] = {1ull << 60, 1ull << 60, 544};
  EXPECT_FALSE(with_entry(down, larger).ok());
}

TEST(Quantized, WhatNeverIsInBlocks) {
  const Config config = parse_config(small_config());
  size_t n_refused = 0;
  Status status = for_each_tensor(config, [&](const TensorSpec& spec) {
    if (can_be_blocked(spec.kind)) return Status();
    Json header = quantized_tensors();
    header[std::string(spec.name)] = entry_of(1, 1, 544);
    expect_error(status_of(single_file(header)), FINERMOE_ERROR_TENSOR_DTYPE, {spec.name, "blocks"});
    n_refused++;
    return Status();
  });
  EXPECT_TRUE(status.ok());
  EXPECT_EQ(n_refused, 2u + 1 + 3 + 3);  // routers, gate of the shared expert, biases, norms
}

TEST(Quantized, OnlyWithOurConfiguration) {
  const Json header = quantized_tensors();
  expect_error(status_of(single_file(header, small_config())), FINERMOE_ERROR_TENSOR_DTYPE, {"quantization_config"});
  EXPECT_TRUE(status_of(single_file(tensors_of(parse_config(small_config())))).ok());  // plain tensors, our key
  const auto with = [&](const char* key, const Json& value) {
    Json config = quantized_config();
    config["quantization_config"][key] = value;
    return status_of(single_file(header, config));
  };
  expect_error(with("version", 2), FINERMOE_ERROR_UNSUPPORTED, {"quantization_config", "version 2"});
  expect_error(with("quant_method", "gptq"), FINERMOE_ERROR_UNSUPPORTED, {"GPTQ"});
  EXPECT_EQ(with("version", -1).code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("version", "1").code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("weights", "q5").code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("embeddings", 8).code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("overrides", "q8").code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("overrides", Json::array({"q8"})).code(), FINERMOE_ERROR_CONFIG_VALUE);
  EXPECT_EQ(with("overrides", Json::array({Json::object()})).code(), FINERMOE_ERROR_CONFIG_MISSING);
  EXPECT_TRUE(with("weights", "q4").ok());  // it only tells: the tensors decide
  Json config = small_config();
  config["quantization_config"] = "q8";
  EXPECT_EQ(status_of(single_file(header, config)).code(), FINERMOE_ERROR_CONFIG_VALUE);
}

TEST(Quantized, BytesChanged) {
  const std::string file = single_file(quantized_tensors());
  const size_t header = file.size() - data_size(quantized_tensors());
  std::mt19937 random(4);
  int opened = 0;
  for (int i = 0; i < 3000; i++) {
    std::string changed = file;
    for (uint32_t n = random() % 3 + 1; n > 0; n--) changed[random() % header] = "{}[]\",:0123456789 "[random() % 18];
    opened += status_of(changed).ok();
  }
  EXPECT_LT(opened, 1500);
}

TEST(Quantization, Patterns) {
  EXPECT_TRUE(matches("lm_head.weight", "lm_head.weight"));
  EXPECT_FALSE(matches("lm_head", "lm_head.weight"));
  EXPECT_FALSE(matches("head.weight", "lm_head.weight"));
  EXPECT_TRUE(matches("*.self_attn.*", "model.layers.3.self_attn.q_proj.weight"));
  EXPECT_TRUE(matches("*.?_proj.weight", "model.layers.3.self_attn.q_proj.weight"));
  EXPECT_FALSE(matches("*.layers.?.*", "model.layers.13.self_attn.q_proj.weight"));
  EXPECT_TRUE(matches("*a*b*c", "xxaybzabbc"));
  EXPECT_FALSE(matches("*a*b*c", "xxaybzabb"));
  EXPECT_TRUE(matches("*", ""));
  EXPECT_TRUE(matches("", ""));
  EXPECT_FALSE(matches("", "a"));
  EXPECT_FALSE(matches("?", ""));
  EXPECT_TRUE(matches("[ab]", "[ab]"));  // no other character is special
  EXPECT_FALSE(matches(std::string(200, '*') + "b", std::string(100000, 'a')));
}

TEST(Quantization, TheLastPatternThatMatchesCounts) {
  Quantization types{DType::q4, DType::q8, {}};
  const std::string query = "model.layers.0.self_attn.q_proj.weight";
  EXPECT_EQ(types.type_of(TensorKind::attention, query), DType::q4);
  EXPECT_EQ(types.type_of(TensorKind::embedding, "model.embed_tokens.weight"), DType::q8);
  EXPECT_EQ(types.type_of(TensorKind::head, "lm_head.weight"), DType::q8);
  types.overrides = {{"*", DType::q4}, {"*.self_attn.*", DType::q8}, {"*.q_proj.*", std::nullopt}};
  EXPECT_EQ(types.type_of(TensorKind::attention, query), std::nullopt);
  EXPECT_EQ(types.type_of(TensorKind::attention, "model.layers.0.self_attn.k_proj.weight"), DType::q8);
  EXPECT_EQ(types.type_of(TensorKind::head, "lm_head.weight"), DType::q4);
  for (TensorKind never :
       {TensorKind::router, TensorKind::concat_gate, TensorKind::shared_gate, TensorKind::norm, TensorKind::bias}) {
    EXPECT_EQ(types.type_of(never, "any"), std::nullopt);
  }
  auto parsed = Quantization::parse(types.to_json(), "config.json");
  ASSERT_TRUE(parsed.ok() && *parsed) << parsed.status().message();
  const Quantization& back = **parsed;
  EXPECT_EQ(back.to_json(), types.to_json());
  EXPECT_EQ(back.type_of(TensorKind::attention, query), std::nullopt);
  EXPECT_EQ(back.weights, DType::q4);
}

}  // namespace
}  // namespace finermoe
