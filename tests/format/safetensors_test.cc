// One file's header: every way in which it can be wrong has its own code.
#include <gtest/gtest.h>

#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

// Opens a model of one file after `change` has edited its header.
template <class F>
Status open_changed(F change) {
  TemporaryDirectory directory;
  Json config = small_config(), header = tensors_of(parse_config(config));
  write_file(directory / "config.json", config.dump());
  uint64_t size = data_size(header);
  change(header);
  write_file(directory / "model.safetensors", safetensors_file(header.dump(), size));
  return open(directory.path).status();
}

// Opens a model whose safetensors file is `bytes`.
Status open_bytes(const std::string& bytes) {
  TemporaryDirectory directory;
  write_file(directory / "config.json", small_config().dump());
  write_file(directory / "model.safetensors", bytes);
  return open(directory.path).status();
}

std::string good_file() { return safetensors_file(tensors_of(parse_config(small_config()))); }

constexpr const char* gate = "model.layers.0.mlp.gate.weight";

TEST(Safetensors, Good) {
  EXPECT_TRUE(open_bytes(good_file()).ok()) << open_bytes(good_file()).message();
  Status status = open_changed([](Json& header) { header["__metadata__"] = {{"format", "pt"}}; });
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(Safetensors, TruncatedHeader) {
  std::string file = good_file();
  for (size_t size : {size_t{0}, size_t{1}, size_t{7}}) {
    expect_error(open_bytes(file.substr(0, size)), FINERMOE_ERROR_HEADER_TRUNCATED, {format_text(size, " bytes")});
  }
  for (size_t size : {size_t{8}, size_t{9}, size_t{100}}) {
    expect_error(open_bytes(file.substr(0, size)), FINERMOE_ERROR_HEADER_TRUNCATED, {format_text("has ", size - 8)});
  }
}

TEST(Safetensors, HeaderTooLarge) {
  std::string file = good_file();
  std::string longer = file;
  longer[2] = '\x7f';  // the header is whole, and its length beyond the file
  expect_error(open_bytes(longer), FINERMOE_ERROR_HEADER_TOO_LARGE, {"at most"});
  std::string huge = file;
  for (int i = 0; i < 8; i++) huge[i] = '\xff';
  expect_error(open_bytes(huge), FINERMOE_ERROR_HEADER_TOO_LARGE, {"18446744073709551615"});
  expect_error(open_bytes("this is a text and no model"), FINERMOE_ERROR_HEADER_TOO_LARGE, {"at most"});
}

TEST(Safetensors, MalformedHeader) {
  const char* bad[] = {
      "",
      "[]",
      "3",
      "{\"a\"}",
      "{} {}",
      "{\"a\": 3}",
      "{\"a\": []}",
      "{\"a\": {}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [1]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4, 8]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [[1]], \"data_offsets\": [0, 4]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": 1, \"data_offsets\": [0, 4]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [\"1\"], \"data_offsets\": [0, 4]}}",
      "{\"a\": {\"dtype\": 32, \"shape\": [1], \"data_offsets\": [0, 4]}}",
      "{\"a\": {\"dtype\": \"F32\", \"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4]}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [1], \"data_offsets\": [0, 4], \"more\": 1}}",
      "{\"a\": {\"dtype\": \"F32\", \"shape\": [null], \"data_offsets\": [0, 4]}}",
      "{\"__metadata__\": {\"a\": 3}}",
      "{\"__metadata__\": {\"a\": {}}}",
      "{\"__metadata__\": [\"a\"]}",
      "{\"__metadata__\": null, \"__metadata__\": {}}",
      "{\"a\": null}",
      "{\"__metadata__\": {\"a\": \"1\", \"a\": \"2\"}}",
      "{\"__metadata__\": {}, \"__metadata__\": {}}",
      "{\"a\": \"\xff\"}",
  };
  for (const char* text : bad) {
    Status status = open_bytes(safetensors_file(text, 64));
    EXPECT_EQ(status.code(), FINERMOE_ERROR_HEADER_MALFORMED) << text << ": " << status.message();
  }
  Status deep = open_bytes(safetensors_file("{\"a\": " + std::string(1 << 20, '['), 0));
  EXPECT_EQ(deep.code(), FINERMOE_ERROR_HEADER_MALFORMED);
}

TEST(Safetensors, TruncatedData) {
  std::string file = good_file();
  expect_error(open_bytes(file.substr(0, file.size() - 1)), FINERMOE_ERROR_DATA_TRUNCATED, {"model.safetensors"});
}

TEST(Safetensors, OffsetsOverlap) {
  Status status = open_changed([](Json& header) {
    // As long as before, and two bytes too early.
    uint64_t begin = header[gate]["data_offsets"][0], end = header[gate]["data_offsets"][1];
    header[gate]["data_offsets"] = {begin - 2, end - 2};
  });
  expect_error(status, FINERMOE_ERROR_OFFSETS_OVERLAP, {gate, "inside"});
}

TEST(Safetensors, OffsetsInvalid) {
  const Json bad[] = {{-2, 30}, {32, 0}, {0, 31}, {0.5, 32.5}, {0, 1e30}, {UINT64_MAX - 1, UINT64_MAX}};
  for (const Json& offsets : bad) {
    Status status = open_changed([&](Json& header) { header[gate]["data_offsets"] = offsets; });
    expect_error(status, FINERMOE_ERROR_OFFSETS_INVALID, {gate});
  }
  expect_error(open_changed([](Json& header) {
                 header[gate]["shape"] = {uint64_t{1} << 40, uint64_t{1} << 40};
               }),
               FINERMOE_ERROR_OFFSETS_INVALID, {gate});
  expect_error(open_changed([](Json& header) {
                 header[gate]["shape"] = {-4, -4};
               }),
               FINERMOE_ERROR_OFFSETS_INVALID, {gate});
  // The product of this shape and of its bytes is 0 modulo 2^64.
  expect_error(open_changed([](Json& header) {
                 header[gate]["shape"] = {uint64_t{1} << 32, uint64_t{1} << 31};
                 header[gate]["data_offsets"] = {0, 0};
               }),
               FINERMOE_ERROR_OFFSETS_INVALID, {gate});
}

TEST(Safetensors, OffsetsOutsideTheFile) {
  Status status = open_changed([](Json& header) {
    header[gate]["data_offsets"] = {(uint64_t{1} << 62), (uint64_t{1} << 62) + 32};
  });
  expect_error(status, FINERMOE_ERROR_DATA_TRUNCATED, {gate, format_text((uint64_t{1} << 62) + 32)});
}

// What the format allows: an odd length of the header, and tensors of odd sizes in front of others.
TEST(Safetensors, DataAtAnyOffset) {
  for (const char* dtype : {"U8", "BOOL"}) {
    Json header = tensors_of(parse_config(small_config()));
    for (auto& [name, tensor] : header.items()) {
      for (Json& offset : tensor["data_offsets"]) offset = offset.get<uint64_t>() + 3;
    }
    header["a.mask"] = {{"dtype", dtype}, {"shape", {3}}, {"data_offsets", {0, 3}}};
    Status status = open_bytes(safetensors_file(header));
    EXPECT_TRUE(status.ok()) << status.message();
  }
}

TEST(Safetensors, MetadataNull) {
  Status status = open_changed([](Json& header) { header["__metadata__"] = nullptr; });
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(Safetensors, DuplicateName) {
  std::string text = tensors_of(parse_config(small_config())).dump();
  uint64_t size = data_size(Json::parse(text));
  text.pop_back();
  text +=
      format_text(R"(,"model.norm.weight":{"dtype":"BF16","shape":[4],"data_offsets":[)", size, ",", size + 8, "]}}");
  expect_error(open_bytes(safetensors_file(text, size + 8)), FINERMOE_ERROR_TENSOR_DUPLICATE, {"model.norm.weight"});
}

TEST(Safetensors, WrongDtype) {
  expect_error(open_changed([](Json& header) { header[gate]["dtype"] = "I16"; }), FINERMOE_ERROR_TENSOR_DTYPE,
               {gate, "I16", "BF16"});
  expect_error(open_changed([](Json& header) { header[gate]["dtype"] = "F4_SOMETHING"; }), FINERMOE_ERROR_TENSOR_DTYPE,
               {gate, "F4_SOMETHING"});
}

TEST(Safetensors, WrongShape) {
  expect_error(open_changed([](Json& header) {
                 header[gate]["shape"] = {2, 8};
               }),
               FINERMOE_ERROR_TENSOR_SHAPE, {gate, "[num_experts, hidden_size] = [4, 4]", "[2, 8]"});
  expect_error(open_changed([](Json& header) { header[gate]["shape"] = Json::array({16}); }),
               FINERMOE_ERROR_TENSOR_SHAPE, {gate, "[16]"});
  expect_error(open_changed([](Json& header) {
                 header[gate]["shape"] = {2, 2, 4};
               }),
               FINERMOE_ERROR_TENSOR_SHAPE, {gate, "rank 3"});
  expect_error(open_changed([](Json& header) {
                 header["model.norm.weight"]["shape"] = {4, 1};
               }),
               FINERMOE_ERROR_TENSOR_SHAPE, {"model.norm.weight", "[hidden_size] = [4]", "[4, 1]"});
  expect_error(open_changed([](Json& header) {
                 header["model.norm.weight"]["shape"] = {1, 4};
               }),
               FINERMOE_ERROR_TENSOR_SHAPE, {"model.norm.weight"});
}

TEST(Safetensors, MissingTensors) {
  Status one = open_changed([](Json& header) { header.erase(gate); });
  expect_error(one, FINERMOE_ERROR_TENSOR_MISSING, {gate});
  EXPECT_EQ(one.message().find("more"), std::string::npos);
  Status many = open_changed([](Json& header) {
    for (const char* name : {"input_layernorm.weight", "self_attn.q_proj.weight", "self_attn.q_proj.bias",
                             "self_attn.v_proj.bias", "mlp.gate.weight"}) {
      header.erase(format_text("model.layers.0.", name));
    }
  });
  expect_error(many, FINERMOE_ERROR_TENSOR_MISSING,
               {"model.layers.0.input_layernorm.weight, model.layers.0.self_attn.q_proj.weight, "
                "model.layers.0.self_attn.q_proj.bias and 2 more"});
}

TEST(Safetensors, WhatNobodyAskedForIsTolerated) {
  Json header = tensors_of(parse_config(small_config()));
  uint64_t n = data_size(header);
  header["scalar"] = {{"dtype", "F32"}, {"shape", Json::array()}, {"data_offsets", {n, n + 4}}};
  header["three"] = {{"dtype", "I64"}, {"shape", {1, 1, 2}}, {"data_offsets", {n + 4, n + 20}}};
  header["empty"] = {{"dtype", "F32"}, {"shape", {0, 7}}, {"data_offsets", {n + 20, n + 20}}};
  header["unknown"] = {{"dtype", "F4"}, {"shape", {3}}, {"data_offsets", {n + 24, n + 26}}};  // behind a hole
  Status status = open_bytes(safetensors_file(header));
  EXPECT_TRUE(status.ok()) << status.message();
}

TEST(Safetensors, NamesWithEscapes) {
  std::string text = tensors_of(parse_config(small_config())).dump();
  uint64_t size = data_size(Json::parse(text));
  size_t at = text.find("model.norm.weight");
  text.replace(at, 5, "m\\u006fdel");
  EXPECT_TRUE(open_bytes(safetensors_file(text, size)).ok()) << open_bytes(safetensors_file(text, size)).message();
}

}  // namespace
}  // namespace finermoe
