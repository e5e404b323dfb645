#include <gtest/gtest.h>

#include <set>
#include <tuple>

#include "support.h"

namespace finermoe {
namespace {

// Every shape of tests/data/shapes, and a model with a MoE layer between dense ones.
std::vector<Config> all_shapes() {
  std::vector<Config> configs;
  for (const auto& entry : std::filesystem::directory_iterator(source_path("tests/data/shapes"))) {
    configs.push_back(parse_config(nlohmann::json::parse(read_file(entry.path().string() + "/config.json"))));
  }
  nlohmann::json mixed = small_config();
  mixed["num_hidden_layers"] = 4;
  mixed["mlp_only_layers"] = {0, 2};
  configs.push_back(parse_config(mixed));
  return configs;
}

std::vector<std::pair<std::string, TensorSpec>> table_of(const Config& config) {
  std::vector<std::pair<std::string, TensorSpec>> table;
  EXPECT_TRUE(for_each_tensor(config, [&](const TensorSpec& spec) {
                table.emplace_back(spec.name, spec);
                return Status();
              }).ok());
  return table;
}

TEST(TensorTable, KindAndRoleTellTheTensorsOfALayerApart) {
  for (const Config& config : all_shapes()) {
    std::set<std::string> names;
    std::set<std::tuple<TensorKind, TensorRole, int64_t, int64_t>> places;
    for (const auto& [name, spec] : table_of(config)) {
      EXPECT_TRUE(names.insert(name).second) << name;
      EXPECT_TRUE(places.emplace(spec.kind, spec.role, spec.layer, spec.expert).second) << name;
    }
  }
}

TEST(TensorTable, RolesAreWhatTheNamesSay) {
  const std::pair<TensorRole, std::string_view> endings[] = {
      {TensorRole::embedding, "model.embed_tokens.weight"},
      {TensorRole::input_norm, ".input_layernorm.weight"},
      {TensorRole::q, ".self_attn.q_proj.weight"},
      {TensorRole::q_bias, ".self_attn.q_proj.bias"},
      {TensorRole::k, ".self_attn.k_proj.weight"},
      {TensorRole::k_bias, ".self_attn.k_proj.bias"},
      {TensorRole::v, ".self_attn.v_proj.weight"},
      {TensorRole::v_bias, ".self_attn.v_proj.bias"},
      {TensorRole::o, ".self_attn.o_proj.weight"},
      {TensorRole::post_attention_norm, ".post_attention_layernorm.weight"},
      {TensorRole::gate, ".gate_proj.weight"},
      {TensorRole::up, ".up_proj.weight"},
      {TensorRole::down, ".down_proj.weight"},
      {TensorRole::router, ".mlp.gate.weight"},
      {TensorRole::concat_gate, ".mlp.concat_gate.weight"},
      {TensorRole::concat_proj, ".mlp.concat_proj.weight"},
      {TensorRole::shared_gate, ".mlp.shared_expert_gate.weight"},
      {TensorRole::final_norm, "model.norm.weight"},
      {TensorRole::head, "lm_head.weight"},
  };
  std::set<TensorRole> seen;
  for (const Config& config : all_shapes()) {
    for (const auto& [name, spec] : table_of(config)) {
      seen.insert(spec.role);
      EXPECT_TRUE(name.ends_with(endings[static_cast<size_t>(spec.role)].second)) << name;
    }
  }
  EXPECT_EQ(seen.size(), std::size(endings));
  for (size_t i = 0; i < std::size(endings); i++) EXPECT_EQ(static_cast<size_t>(endings[i].first), i);
}

TEST(TensorTable, NamesOfFfnMatrices) {
  for (const Config& config : all_shapes()) {
    for (const auto& [name, spec] : table_of(config)) {
      const bool of_ffn = std::find(std::begin(ffn_roles), std::end(ffn_roles), spec.role) != std::end(ffn_roles);
      EXPECT_EQ(of_ffn,
                spec.kind == TensorKind::dense || spec.kind == TensorKind::shared || spec.kind == TensorKind::routed);
      if (of_ffn) {
        EXPECT_EQ(ffn_tensor_name(spec.kind, spec.role, spec.layer, spec.expert), name);
      }
      if (spec.expert >= 0) {
        EXPECT_TRUE(name.starts_with(expert_name(spec.layer, spec.expert) + ".")) << name;
      }
    }
  }
  EXPECT_EQ(ffn_tensor_name(TensorKind::routed, TensorRole::up, 3, 5), "model.layers.3.mlp.experts.5.up_proj.weight");
}

TEST(TensorTable, ExpertsAreNumberedThroughAllLayers) {
  for (const Config& config : all_shapes()) {
    std::set<int64_t> numbers;
    for (const auto& [name, spec] : table_of(config)) {
      EXPECT_EQ(spec.expert_of_all >= 0, spec.kind == TensorKind::routed) << name;
      if (spec.expert_of_all < 0) continue;
      numbers.insert(spec.expert_of_all);
      EXPECT_EQ(static_cast<uint64_t>(spec.expert_of_all),
                config.first_expert_of(static_cast<size_t>(spec.layer)) + static_cast<uint64_t>(spec.expert))
          << name;
    }
    const uint64_t n = config.is_moe() ? config.n_moe_layers() * config.router.n_experts() : 0;
    ASSERT_EQ(numbers.size(), n);
    if (n != 0) {
      EXPECT_EQ(*numbers.begin(), 0);
      EXPECT_EQ(*numbers.rbegin(), static_cast<int64_t>(n) - 1);
    }
  }
}

}  // namespace
}  // namespace finermoe
