#include <gtest/gtest.h>

#include "base/json.h"
#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

Json with(std::initializer_list<std::pair<const char*, Json>> changes) {
  Json config = small_config();
  for (const auto& [key, value] : changes) config[key] = value;
  return config;
}

Status parse_status(const Json& config) { return Config::parse(config.dump(), "config.json").status(); }

TEST(Config, EveryShapeOfTheSpecification) {
  int n = 0;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/data/shapes"))) {
    std::string path = entry.path().string();
    Json raw = Json::parse(read_file(path + "/config.json"));
    Config config = parse_config(raw);
    EXPECT_EQ(config.model_type_name(), raw["model_type"].get<std::string>());
    EXPECT_EQ(config.hidden_size, raw["hidden_size"]);
    EXPECT_EQ(config.tied_embeddings, raw["tie_word_embeddings"]);
    EXPECT_EQ(config.rope.theta, 1e6);
    EXPECT_EQ(config.head_size * config.n_heads, config.hidden_size);
    EXPECT_EQ(config.router.n_experts(), raw.value("num_experts", uint64_t{0})) << path;
    EXPECT_EQ(config.router.n_experts_per_token(), raw.value("num_experts_per_tok", uint64_t{0})) << path;
    EXPECT_EQ(config.router.separate, raw.contains("router_type"));
    EXPECT_EQ(config.router.softmax_over_all, raw["model_type"] == "qwen2_moe");
    EXPECT_EQ(config.dtype, raw["torch_dtype"] == "float16" ? DType::f16 : DType::bf16);
    Json expected = Json::parse(read_file(path + "/expected.json"));
    EXPECT_EQ(count_parameters(config).total, expected["parameters"].get<uint64_t>()) << path;
    n++;
  }
  EXPECT_EQ(n, 21);
}

TEST(Config, CountsWhatTheVisitVisits) {
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/data/shapes"))) {
    Config config = parse_config(Json::parse(read_file(entry.path().string() + "/config.json")));
    uint64_t total = 0, unchosen = 0;
    ASSERT_TRUE(for_each_tensor(config, [&](const TensorSpec& spec) {
                  total += spec.elements();
                  // The first experts of a layer stand for the chosen ones: all have the same size.
                  bool chosen = spec.expert < static_cast<int64_t>(config.router.n_experts_per_token());
                  if (spec.kind == TensorKind::routed && !chosen) unchosen += spec.elements();
                  EXPECT_EQ(spec.kind == TensorKind::routed, spec.expert >= 0);
                  EXPECT_EQ(spec.layer >= 0, spec.name.starts_with("model.layers."));
                  return Status();
                }).ok());
    EXPECT_EQ(count_parameters(config).total, total);
    EXPECT_EQ(count_parameters(config).active, total - unchosen);
  }
}

TEST(Config, LayersWithExperts) {
  Config every = parse_config(with({{"num_hidden_layers", 4}}));
  EXPECT_EQ(every.is_moe_layer, std::vector<bool>({true, true, true, true}));
  Config second = parse_config(with({{"num_hidden_layers", 4}, {"decoder_sparse_step", 2}}));
  EXPECT_EQ(second.is_moe_layer, std::vector<bool>({false, true, false, true}));
  Config dense_first = parse_config(with({{"num_hidden_layers", 4}, {"mlp_only_layers", {0, 3, 9}}}));
  EXPECT_EQ(dense_first.is_moe_layer, std::vector<bool>({false, true, true, false}));
  EXPECT_EQ(dense_first.n_moe_layers(), 2u);
}

TEST(Config, OldAndCurrentSpellings) {
  Json current = small_config();
  current.erase("torch_dtype");
  current.erase("rope_theta");
  current["dtype"] = "float32";
  current["rope_parameters"] = {{"rope_theta", 500000}, {"rope_type", "default"}};
  current["layer_types"] = {"full_attention"};
  current["architectures"] = "FineRMoeForCausalLM";
  current["head_dim"] = 8;
  Config config = parse_config(current);
  EXPECT_EQ(config.dtype, DType::f32);
  EXPECT_EQ(config.head_size, 8u);
  EXPECT_EQ(config.rope.theta, 500000);
  EXPECT_EQ(parse_config(with({{"torch_dtype", "torch.float16"}})).dtype, DType::f16);
  EXPECT_EQ(parse_config(with({{"rope_scaling", nullptr}, {"architectures", {"A", "B"}}})).rope.theta, 10000);
  EXPECT_EQ(parse_config(with({{"rope_scaling", {{"type", "default"}}}})).rope.theta, 10000);
  EXPECT_EQ(parse_config(with({{"num_key_value_heads", nullptr}})).n_kv_heads, 2u);
  EXPECT_FALSE(parse_config(small_config()).tied_embeddings);
}

TEST(Config, NotJson) {
  auto code = [](std::string_view text) { return Config::parse(text, "config.json").status().code(); };
  for (const char* text : {"", "{", "[]", "3", "{\"hidden_size\": }", "{} {}", "\xff", "{\"a\": \"\xff\"}",
                           "{\"a\": NaNx}", "{\"a\": nan}", "{\"a\": -NaN}", "{NaN: 1}", "{\"a\": \"NaN\", 3}"}) {
    EXPECT_EQ(code(text), FINERMOE_ERROR_CONFIG_MALFORMED) << text;
  }
  EXPECT_EQ(code("{\"a\": " + std::string(100, '[') + std::string(100, ']') + "}"), FINERMOE_ERROR_CONFIG_MALFORMED);
  EXPECT_EQ(code("{\"a\": " + std::string(1000000, '[')), FINERMOE_ERROR_CONFIG_MALFORMED);
  EXPECT_EQ(code("{\"a\": 1e999}"), FINERMOE_ERROR_CONFIG_MALFORMED);
}

// As Python's json module reads it, with which such files are written.
TEST(Config, WhatPythonWrites) {
  std::string text = small_config().dump();
  text.back() = ',';
  const Config config = *Config::parse(text + R"("a": NaN, "b": [Infinity, -Infinity], "c": "NaN \" Infinity",
    "hidden_size": 3, "hidden_size": 8, "rope_scaling": {"type": "dynamic"}, "rope_scaling": null})",
                                       "config.json");
  EXPECT_EQ(config.hidden_size, 8u);
  const std::string document =
      parse_json(R"({"a": NaN, "b": [-Infinity, "NaN"], "a": Infinity, "\"": 1})", "x", -1)->dump();
  EXPECT_EQ(Json::parse(document),
            Json::parse(R"({"a": {"__float__": "Infinity"}, "b": [{"__float__": "-Infinity"}, "NaN"],
                                      "\"": 1})"));
  // Where a number is needed, NaN is none; and an error stands where it is in the file.
  expect_error(Config::parse(text + R"("rms_norm_eps": NaN})", "config.json").status(), FINERMOE_ERROR_CONFIG_VALUE,
               {"rms_norm_eps", "NaN"});
  expect_error(parse_json(R"({"a": NaN, "b": Infinity, !})", "x", FINERMOE_ERROR_CONFIG_MALFORMED).status(),
               FINERMOE_ERROR_CONFIG_MALFORMED, {"byte 27"});
}

TEST(Config, Missing) {
  for (const char* key : {"model_type", "G_I", "R_I", "G_O", "R_O"}) {
    Json config = small_config();
    config.erase(key);
    expect_error(parse_status(config), FINERMOE_ERROR_CONFIG_MISSING, {key});
  }
  expect_error(parse_status(with({{"rope_scaling", {{"type", "yarn"}}}})), FINERMOE_ERROR_CONFIG_MISSING,
               {"rope_scaling", "factor"});
  expect_error(parse_status(with({{"rope_parameters", {{"rope_type", "llama3"}, {"factor", 8.0}}}})),
               FINERMOE_ERROR_CONFIG_MISSING, {"rope_parameters", "low_freq_factor"});
}

TEST(Config, BadValues) {
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
                          "num_key_value_heads", "vocab_size", "max_position_embeddings", "G_I", "R_I", "G_O", "R_O",
                          "num_experts", "num_experts_per_tok", "moe_intermediate_size", "decoder_sparse_step"}) {
    for (const Json& value : {Json(0), Json(-3), Json(1.5), Json("4"), Json(true), Json::array({4}),
                              Json(uint64_t{1} << 40), Json(1e300), Json(UINT64_MAX)}) {
      expect_error(parse_status(with({{key, value}})), FINERMOE_ERROR_CONFIG_VALUE, {key, value.dump()});
    }
  }
  for (const char* key : {"rms_norm_eps", "rope_theta"}) {
    for (const Json& value : {Json(-1.0), Json(-1), Json("1"), Json(1e300)}) {
      expect_error(parse_status(with({{key, value}})), FINERMOE_ERROR_CONFIG_VALUE, {key});
    }
  }
  const std::pair<const char*, Json> wrong[] = {{"shared_expert_intermediate_size", -1},
                                                {"torch_dtype", "int8"},
                                                {"hidden_act", "gelu"},
                                                {"router_type", "both"},
                                                {"norm_topk_prob", 1},
                                                {"moe_concat_proj", "yes"},
                                                {"tie_word_embeddings", 0},
                                                {"use_sliding_window", "false"},
                                                {"architectures", 3},
                                                {"architectures", {"A", 3}},
                                                {"mlp_only_layers", 3},
                                                {"mlp_only_layers", {1.5}},
                                                {"head_dim", 0},
                                                {"max_window_layers", 1.5},
                                                {"per_layer_config", {{"0", {{"sliding_window", 3}}}}},
                                                {"layer_types", {"linear_attention"}},
                                                {"layer_types", "full_attention"},
                                                {"layer_types", {3}},
                                                {"rope_scaling", "default"},
                                                {"qkv_bias", 0},
                                                {"rope_scaling", {{"type", "linear"}, {"factor", 0}}},
                                                {"rope_scaling", {{"type", "linear"}, {"factor", "4"}}},
                                                {"rope_scaling", {{"type", 4}}},
                                                {"initializer_range", -0.1}};
  for (const auto& [key, value] : wrong) {
    expect_error(parse_status(with({{key, value}})), FINERMOE_ERROR_CONFIG_VALUE, {key});
  }
}

TEST(Config, TooLargeTogether) {
  // Each size may stand alone; what they make together may not.
  expect_error(parse_status(with({{"num_hidden_layers", 65536}, {"num_experts", 1 << 20}, {"G_I", 1 << 18}})),
               FINERMOE_ERROR_CONFIG_VALUE, {"65536", "1048576"});
  expect_error(parse_status(with({{"num_hidden_layers", 65536}, {"hidden_size", 1 << 24}})),
               FINERMOE_ERROR_CONFIG_VALUE, {"parameters"});
}

TEST(Config, Inconsistent) {
  constexpr Code code = FINERMOE_ERROR_CONFIG_INCONSISTENT;
  expect_error(parse_status(with({{"num_experts", 5}})), code, {"5", "2 * 2 * 1 * 1"});
  expect_error(parse_status(with({{"G_I", 1 << 20}, {"R_I", 1 << 20}})), code, {"1048576 * 1048576"});
  expect_error(parse_status(with({{"hidden_size", 6},
                                  {"num_attention_heads", 1},
                                  {"G_O", 4},
                                  {"num_experts", 8},
                                  {"num_experts_per_tok", 4}})),
               code, {"hidden_size = 6", "G_O = 4"});
  expect_error(parse_status(with({{"num_experts_per_tok", 3}})), code, {"num_experts_per_tok = 3", "G_O = 2"});
  expect_error(parse_status(with({{"num_experts_per_tok", 4}})), code, {"4 / 2 = 2", "1 * 1 = 1"});
  expect_error(parse_status(with({{"num_attention_heads", 4}, {"num_key_value_heads", 3}, {"hidden_size", 8}})), code,
               {"num_attention_heads = 4", "num_key_value_heads = 3"});
  expect_error(parse_status(with({{"num_attention_heads", 3}})), code, {"4 / 3 = 1", "odd"});
  expect_error(parse_status(with({{"num_attention_heads", 8}})), code, {"4 / 8 = 0", "pairs"});
  expect_error(parse_status(with({{"num_attention_heads", 4}})), code, {"4 / 4 = 1", "odd"});
  expect_error(parse_status(with({{"head_dim", 7}})), code, {"head_dim = 7", "odd"});
  expect_error(parse_status(with({{"layer_types", {"full_attention", "full_attention"}}})), code, {"2 entries", "1"});
}

TEST(Config, NotSupported) {
  expect_error(parse_status(with({{"model_type", "llama"}})), FINERMOE_ERROR_MODEL_TYPE, {"llama", "finer_moe"});
  for (const char* type : {"dynamic", "longrope", "mrope", "proportional", "su"}) {
    expect_error(parse_status(with({{"rope_scaling", {{"type", type}, {"factor", 2.0}}}})), FINERMOE_ERROR_ROPE_SCALING,
                 {type});
    expect_error(parse_status(with({{"rope_parameters", {{"rope_type", type}, {"rope_theta", 1e4}}}})),
                 FINERMOE_ERROR_ROPE_SCALING, {type});
  }
  expect_error(parse_status(with({{"rope_parameters", {{"full_attention", {{"rope_theta", 1e4}}}}}})),
               FINERMOE_ERROR_ROPE_SCALING, {"each type of layer"});
  expect_error(
      parse_status(with({{"rope_scaling", {{"type", "linear"}, {"factor", 2}}}, {"partial_rotary_factor", .5}})),
      FINERMOE_ERROR_ROPE_SCALING, {"partial_rotary_factor 0.5"});
  constexpr double first_wavelength = 2.5464790894703255;  // 16 / (2 pi): 0 / 0 in a ramp of no width
  expect_error(parse_status(with({{"rope_scaling",
                                   {{"type", "llama3"},
                                    {"factor", 2},
                                    {"low_freq_factor", first_wavelength},
                                    {"high_freq_factor", first_wavelength}}}})),
               FINERMOE_ERROR_ROPE_SCALING, {"llama3", "finite"});
  expect_error(parse_status(with({{"quantization_config", {{"quant_method", "gptq"}}}})), FINERMOE_ERROR_UNSUPPORTED,
               {"quantization_config"});
}

TEST(Config, WindowsThatMakeNoSense) {
  constexpr Code code = FINERMOE_ERROR_SLIDING_WINDOW;
  const std::pair<const char*, Json> sliding = {"layer_types", {"sliding_attention"}};
  expect_error(parse_status(with({sliding})), code, {"use_sliding_window"});
  expect_error(parse_status(with({sliding, {"use_sliding_window", true}, {"sliding_window", nullptr}})), code,
               {"null"});
  expect_error(parse_status(with({{"use_sliding_window", true}, {"sliding_window", nullptr}})), code, {"null"});
  expect_error(parse_status(with({{"use_sliding_window", true}, {"sliding_window", 0}})), code, {"window of 0"});
  expect_error(parse_status(with({{"use_sliding_window", true}, {"sliding_window", -1}})), code, {"window of -1"});
  expect_error(parse_status(with({{"use_sliding_window", true}, {"sliding_window", "4"}})), FINERMOE_ERROR_CONFIG_VALUE,
               {"sliding_window", "\"4\""});
  // Where no layer has one, it does not matter.
  for (const Json& window : {Json(0), Json(-1), Json(nullptr), Json(16)}) {
    const Config config =
        parse_config(with({{"use_sliding_window", true}, {"sliding_window", window}, {"max_window_layers", 0}}));
    EXPECT_EQ(config.n_sliding_layers(), 0u);
    EXPECT_EQ(config.window_of(0), 0u);
  }
}

TEST(Config, PositionsThatARopeScalingIsFor) {
  auto positions = [](Json scaling) {
    return parse_config(with({{"rope_scaling", std::move(scaling)}})).max_positions;
  };
  EXPECT_EQ(positions(nullptr), 16u);
  EXPECT_EQ(positions({{"type", "linear"}, {"factor", 4.0}}), 64u);
  EXPECT_EQ(positions({{"type", "yarn"}, {"factor", 4.0}}), 64u);  // as Qwen2.5 documents it
  EXPECT_EQ(positions({{"type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 4}}), 16u);
  EXPECT_EQ(positions({{"type", "yarn"}, {"factor", 1e6}}), 16000000u);
  EXPECT_EQ(positions({{"type", "linear"}, {"factor", .5}}), 16u);
  EXPECT_EQ(positions({{"rope_type", "llama3"}, {"factor", 8}, {"low_freq_factor", 1}, {"high_freq_factor", 4}}), 16u);
}

// Of other tools: what each writes is known by its name.
TEST(Config, OtherQuantizations) {
  const auto status = [](const Json& quantization) {
    return parse_status(with({{"quantization_config", quantization}}));
  };
  const std::pair<Json, const char*> refused[] = {
      {{{"quant_method", "gptq"}, {"bits", 4}, {"group_size", 128}, {"version", "2"}}, "GPTQ"},
      {{{"quant_method", "awq"}, {"bits", 4}, {"version", "gemm"}}, "AWQ"},
      {{{"quant_method", "fp8"}, {"fmt", "e4m3"}}, "FP8"},
      {{{"quant_method", "fbgemm_fp8"}}, "FP8"},
      {{{"quant_method", "compressed-tensors"}, {"version", "0.9"}}, "compressed-tensors"},
      {{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}, {"load_in_8bit", false}}, "bitsandbytes"},
      {{{"load_in_8bit", true}}, "bitsandbytes"},
      {{{"group_size", 64}, {"bits", 4}}, "MLX"},
      {{{"quant_method", "other"}}, "other"},
      {Json::object(), "without a name"}};
  for (const auto& [quantization, name] : refused) {
    expect_error(status(quantization), FINERMOE_ERROR_UNSUPPORTED, {"quantization_config", name});
  }
  for (const Json& left_behind :
       {Json{{"quant_method", "bitsandbytes"},
             {"load_in_4bit", false},
             {"load_in_8bit", false},
             {"llm_int8_threshold", 6}},
        Json{{"_load_in_4bit", false}, {"_load_in_8bit", false}, {"quant_method", "bitsandbytes"}},
        Json{{"load_in_4bit", false}, {"load_in_8bit", nullptr}}}) {
    EXPECT_TRUE(status(left_behind).ok()) << status(left_behind).message();
    EXPECT_FALSE(parse_config(with({{"quantization_config", left_behind}})).quantization.has_value());
  }
}

// transformers takes both ends, the setters of options neither: the values next to them do the same.
TEST(GenerationDefaults, EndsOfShares) {
  const auto defaults =
      GenerationDefaults::parse(R"({"do_sample": true, "top_p": 0, "min_p": 1, "typical_p": 1})", "{}");
  ASSERT_TRUE(defaults.ok()) << defaults.status().message();
  EXPECT_GT(defaults->top_p, 0);
  EXPECT_LT(defaults->top_p, 1e-300);
  EXPECT_LT(defaults->min_p, 1);
  EXPECT_GT(defaults->min_p, 1 - 1e-15);
}

TEST(GenerationDefaults, StopIds) {
  auto ids = [](std::optional<std::string_view> generation, const char* config) {
    auto defaults = GenerationDefaults::parse(generation, config);
    EXPECT_TRUE(defaults.ok()) << defaults.status().message();
    return defaults->stop_ids;
  };
  EXPECT_EQ(ids({}, "{}"), std::vector<int32_t>());
  EXPECT_EQ(ids({}, R"({"eos_token_id": 7})"), std::vector<int32_t>({7}));
  EXPECT_EQ(ids("{}", R"({"eos_token_id": 7})"), std::vector<int32_t>({7}));
  EXPECT_EQ(ids(R"({"eos_token_id": [3, 4]})", R"({"eos_token_id": 7})"), std::vector<int32_t>({3, 4}));
  EXPECT_EQ(ids(R"({"eos_token_id": null})", R"({"eos_token_id": 7})"), std::vector<int32_t>({7}));
  EXPECT_EQ(ids(R"({"eos_token_id": -1})", R"({"eos_token_id": 7})"), std::vector<int32_t>());
  EXPECT_EQ(ids(R"({"eos_token_id": [-1, 3.0, 2147483647]})", "{}"), std::vector<int32_t>({3, 2147483647}));
  EXPECT_EQ(ids({}, R"({"eos_token_id": -1})"), std::vector<int32_t>());
}

TEST(GenerationDefaults, Values) {
  auto defaults = GenerationDefaults::parse(
      R"({"do_sample": true, "temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.05,
          "max_new_tokens": 128, "transformers_version": "4.46.3", "suppress_tokens": [1, [2]], "x": {"y": null}})",
      "{}");
  ASSERT_TRUE(defaults.ok()) << defaults.status().message();
  EXPECT_TRUE(defaults->do_sample);
  EXPECT_EQ(defaults->temperature, 0.7);
  EXPECT_EQ(defaults->top_p, 0.8);
  EXPECT_EQ(defaults->top_k, 20u);
  EXPECT_EQ(defaults->repetition_penalty, 1.05);
  EXPECT_EQ(defaults->max_new_tokens, 128u);
}

// Python takes 20.0 for 20 and 1 for true; -1 switches off, and null is as good as nothing.
TEST(GenerationDefaults, AsPythonReadsThem) {
  const auto parse = [](const char* text) {
    auto defaults = GenerationDefaults::parse(text, "{}");
    EXPECT_TRUE(defaults.ok()) << text << ": " << defaults.status().message();
    return defaults.ok() ? *defaults : GenerationDefaults();
  };
  EXPECT_EQ(parse(R"({"top_k": 20.0})").top_k, 20u);
  EXPECT_EQ(parse(R"({"max_new_tokens": 1e2})").max_new_tokens, 100u);
  EXPECT_EQ(parse(R"({"temperature": 1})").temperature, 1);
  EXPECT_TRUE(parse(R"({"do_sample": 1})").do_sample);
  EXPECT_FALSE(parse(R"({"do_sample": 0})").do_sample);
  EXPECT_FALSE(parse(R"({"do_sample": 0.0})").do_sample);
  EXPECT_EQ(parse(R"({"top_k": -1})").top_k, 0u);
  EXPECT_EQ(parse(R"({"top_k": -1.0})").top_k, 0u);
  EXPECT_EQ(parse(R"({"top_p": -1})").top_p, 1);
  EXPECT_EQ(parse(R"({"min_p": -1})").min_p, 0);
  EXPECT_EQ(parse(R"({"typical_p": -1})").typical_p, 1);
  EXPECT_EQ(parse(R"({"max_new_tokens": -1, "min_new_tokens": -1})").max_new_tokens, 0u);
  const GenerationDefaults nothing =
      parse(R"({"top_k": null, "top_p": null, "do_sample": null, "temperature": null, "max_new_tokens": null})");
  EXPECT_EQ(nothing.top_k, 50u);
  EXPECT_EQ(nothing.top_p, 1);
  EXPECT_FALSE(nothing.do_sample);
  EXPECT_EQ(nothing.temperature, 1);
  EXPECT_EQ(nothing.max_new_tokens, 0u);
}

// The message names the file, the key and the value.
TEST(GenerationDefaults, WhatMakesNoSense) {
  const std::tuple<const char*, const char*, const char*> cases[] = {
      {R"({"temperature": -1})", "temperature", "-1"},
      {R"({"top_p": 1.1})", "top_p", "1.1"},
      {R"({"top_p": -0.5})", "top_p", "-0.5"},
      {R"({"top_k": -2})", "top_k", "-2"},
      {R"({"top_k": 20.5})", "top_k", "20.5"},
      {R"({"top_k": 1e300})", "top_k", "1e+300"},
      {R"({"min_p": "0"})", "min_p", "\"0\""},
      {R"({"typical_p": []})", "typical_p", "[]"},
      {R"({"typical_p": 0})", "typical_p", "0"},
      {R"({"repetition_penalty": 0})", "repetition_penalty", "0"},
      {R"({"eos_token_id": [1, "2"]})", "eos_token_id", "[1,\"2\"]"},
      {R"({"eos_token_id": 4294967296})", "eos_token_id", "4294967296"},
      {R"({"eos_token_id": -2})", "eos_token_id", "-2"},
      {R"({"eos_token_id": true})", "eos_token_id", "true"},
      {R"({"do_sample": "yes"})", "do_sample", "yes"},
      {R"({"do_sample": 2})", "do_sample", "2"},
      {R"({"max_new_tokens": 1.5})", "max_new_tokens", "1.5"}};
  for (const auto& [text, key, value] : cases) {
    expect_error(GenerationDefaults::parse(text, "{}").status(), FINERMOE_ERROR_CONFIG_VALUE,
                 {"generation_config.json", key, value});
  }
  const auto code = [](const char* text) { return GenerationDefaults::parse(text, "{}").status().code(); };
  for (const char* text : {"[]", "{", "", "3", "null"}) EXPECT_EQ(code(text), FINERMOE_ERROR_CONFIG_MALFORMED) << text;
  expect_error(GenerationDefaults::parse({}, R"({"eos_token_id": "a"})").status(), FINERMOE_ERROR_CONFIG_VALUE,
               {"config.json", "eos_token_id"});
}

}  // namespace
}  // namespace finermoe
