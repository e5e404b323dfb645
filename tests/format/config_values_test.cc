// What a config.json means, over many of them: against what the classes of transformers 5.23 make of the same texts
// (tests/data/configs/make_expected.py).
#include <gtest/gtest.h>

#include <cmath>

#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

const Json& cases() {
  static const Json all = Json::parse(read_file(source_path("tests/data/configs/expected.json")));
  return all;
}

TEST(ConfigValues, AreThoseOfTransformers) {
  ASSERT_GT(cases().size(), 250u);
  for (const Json& one : cases()) {
    const Json& expected = one["expected"];
    SCOPED_TRACE(one["config"].get<std::string>());
    const Result<Config> result = Config::parse(one["config"].get_ref<const std::string&>(), "config.json");
    ASSERT_TRUE(result.ok()) << result.status().message();
    const Config& config = *result;
    EXPECT_EQ(config.hidden_size, expected["hidden_size"]);
    EXPECT_EQ(config.intermediate_size, expected["intermediate_size"]);
    EXPECT_EQ(config.n_layers, expected["num_hidden_layers"]);
    EXPECT_EQ(config.n_heads, expected["num_attention_heads"]);
    EXPECT_EQ(config.n_kv_heads, expected["num_key_value_heads"]);
    EXPECT_EQ(config.head_size, expected["head_size"]);
    EXPECT_EQ(config.vocab_size, expected["vocab_size"]);
    EXPECT_GE(config.max_positions, expected["max_position_embeddings"]);
    EXPECT_EQ(config.rms_norm_eps, expected["rms_norm_eps"]);
    EXPECT_EQ(config.initializer_range, expected["initializer_range"]);
    EXPECT_EQ(config.tied_embeddings, expected["tie_word_embeddings"]);

    const std::string scaling = expected["rope_type"];
    EXPECT_EQ(config.rope.scaling_name(), scaling == "default" ? "none" : scaling);
    EXPECT_EQ(config.rope.theta, expected["rope_theta"]);
    EXPECT_NEAR(config.rope.attention_factor, expected["attention_factor"], 1e-12);
    const std::vector<float> want = expected["frequencies"];
    std::vector<float> found(want.size());
    ASSERT_EQ(want.size(), config.head_size / 2);
    config.rope.frequencies(config.head_size, found);
    for (size_t i = 0; i < want.size(); i++) {
      EXPECT_NEAR(found[i], want[i], 1e-6 * std::abs(double(want[i]))) << "frequency " << i;
    }
    for (size_t layer = 0; layer < config.n_layers; layer++) {
      EXPECT_EQ(config.window_of(layer), expected["windows"][layer]) << "layer " << layer;
    }
    if (config.model_type == ModelType::qwen2) continue;
    EXPECT_EQ(config.is_moe_layer, expected["is_moe_layer"].get<std::vector<bool>>());
    EXPECT_EQ(config.has_qkv_bias, expected["qkv_bias"]);
    if (!config.is_moe()) continue;
    EXPECT_EQ(config.router.n_experts(), expected["num_experts"]);
    EXPECT_EQ(config.router.n_experts_per_token(), expected["num_experts_per_tok"]);
    EXPECT_EQ(config.router.norm_topk_prob, expected["norm_topk_prob"]);
    EXPECT_EQ(config.expert_width, expected["moe_intermediate_size"]);
    EXPECT_EQ(config.shared_expert_width, expected["shared_expert_intermediate_size"]);
  }
}

// FineRMoeConfig is a Qwen2MoeConfig.
TEST(ConfigValues, OfAFineRMoeModelAreThoseOfQwen2Moe) {
  for (const Json& one : cases()) {
    const std::string& text = one["config"].get_ref<const std::string&>();
    const size_t at = text.find("\"qwen2_moe\"");
    if (at == text.npos || one["expected"]["num_experts"] == 0) continue;
    std::string finer = text;
    const std::string experts = one["expected"]["num_experts"].dump();
    finer.replace(at, 11, "\"finer_moe\", \"G_O\": 1, \"R_O\": 1, \"R_I\": 1, \"G_I\": " + experts);
    const Result<Config> config = Config::parse(finer, "config.json"), qwen = Config::parse(text, "config.json");
    ASSERT_TRUE(config.ok()) << config.status().message();
    EXPECT_EQ(config->is_sliding_layer, qwen->is_sliding_layer);
    EXPECT_EQ(config->n_kv_heads, qwen->n_kv_heads);
    EXPECT_EQ(config->hidden_size, qwen->hidden_size);
    EXPECT_EQ(config->router.n_experts_per_token(), qwen->router.n_experts_per_token());
    EXPECT_EQ(count_parameters(*config).total, count_parameters(*qwen).total);
  }
}

}  // namespace
}  // namespace finermoe
