#include "analysis/expert_similarity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "../format/support.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

const auto always = [] { return Status(); };

// A single-file model in memory, of random numbers in float32. Layer 1 has experts, layer 0 has none.
class RandomModel {
 public:
  explicit RandomModel(const std::function<void(Json&)>& change = [](Json&) {}) {
    Json config = small_config();
    config["num_hidden_layers"] = 2;
    config["mlp_only_layers"] = {0};
    change(config);
    Json header = tensors_of(parse_config(config), "F32");
    header["__metadata__"] = {{"finermoe.config.json", config.dump()}};
    file_ = safetensors_file(header);
    std::mt19937 random(7);
    std::normal_distribution<float> normal(0.1f, 1);
    for (size_t at = file_.size() - data_size(header); at < file_.size(); at += sizeof(float)) {
      const float value = normal(random);
      std::memcpy(file_.data() + at, &value, sizeof(value));
    }
    Result<std::shared_ptr<const Checkpoint>> opened = Checkpoint::open_memory(file_.data(), file_.size(), options());
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    if (opened.ok()) checkpoint = *opened;
  }

  std::vector<float> expert(int64_t e) const {
    std::vector<float> values;
    for (TensorRole role : ffn_roles) {
      const Tensor& matrix = *checkpoint->find(ffn_tensor_name(TensorKind::routed, role, 1, e));
      for (uint64_t i = 0; i < matrix.elements(); i++) values.push_back(load_element(matrix.dtype, matrix.data, i));
    }
    return values;
  }
  void set_expert(int64_t e, float value) {
    for (TensorRole role : ffn_roles) {
      const Tensor& matrix = *checkpoint->find(ffn_tensor_name(TensorKind::routed, role, 1, e));
      auto* data = file_.data() + (reinterpret_cast<const char*>(matrix.data) - file_.data());
      for (uint64_t i = 0; i < matrix.elements(); i++) std::memcpy(data + i * sizeof(float), &value, sizeof(value));
    }
  }

  std::shared_ptr<const Checkpoint> checkpoint;

 private:
  std::string file_;
};

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double product = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); i++) {
    product += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return aa == 0 || bb == 0 ? 0 : product / std::sqrt(aa * bb);
}

double mean_over_pairs(const RandomModel& model) {
  const auto n = static_cast<int64_t>(model.checkpoint->config().router.n_experts());
  double sum = 0;
  for (int64_t a = 0; a < n; a++) {
    for (int64_t b = 0; b < a; b++) sum += cosine(model.expert(a), model.expert(b));
  }
  return sum / (static_cast<double>(n * (n - 1)) / 2);
}

TEST(ExpertSimilarity, IsTheMeanOverAllPairs) {
  const RandomModel model;
  for (uint32_t n_threads : {1, 3}) {
    ThreadPool pool(n_threads);
    const Result<double> similarity = expert_similarity(*model.checkpoint, 1, pool, always);
    ASSERT_TRUE(similarity.ok()) << similarity.status().message();
    EXPECT_NEAR(*similarity, mean_over_pairs(model), 1e-12);
  }
}

TEST(ExpertSimilarity, OfExpertsThatAreEqual) {
  RandomModel model;
  for (int64_t e = 0; e < 4; e++) model.set_expert(e, 0.5f);
  ThreadPool pool(2);
  EXPECT_NEAR(*expert_similarity(*model.checkpoint, 1, pool, always), 1, 1e-12);
  model.set_expert(3, -2);  // opposite to the three others: three pairs of 1, three of -1
  EXPECT_NEAR(*expert_similarity(*model.checkpoint, 1, pool, always), 0, 1e-12);
}

TEST(ExpertSimilarity, AnExpertOfZerosIsLikeNone) {
  RandomModel model;
  model.set_expert(2, 0);
  ThreadPool pool(2);
  EXPECT_NEAR(*expert_similarity(*model.checkpoint, 1, pool, always), mean_over_pairs(model), 1e-12);
}

TEST(ExpertSimilarity, WhatHasNoPairs) {
  ThreadPool pool(1);
  const RandomModel model;
  for (size_t layer : {0, 2, 99}) {
    expect_error(expert_similarity(*model.checkpoint, layer, pool, always).status(), FINERMOE_ERROR_INVALID_ARGUMENT,
                 {"layer", std::to_string(layer)});
  }
  const RandomModel lonely([](Json& config) {
    for (const char* key : {"G_O", "R_O", "num_experts", "num_experts_per_tok"}) config[key] = 1;
    config["moe_intermediate_size"] = 6;
  });
  expect_error(expert_similarity(*lonely.checkpoint, 1, pool, always).status(), FINERMOE_ERROR_UNSUPPORTED, {"pairs"});
}

TEST(ExpertSimilarity, Stops) {
  ThreadPool pool(1);
  const RandomModel model;
  int n_asked = 0;
  const auto stop_later = [&] { return ++n_asked < 3 ? Status() : Status(FINERMOE_ERROR_CANCELLED, "stopped"); };
  EXPECT_EQ(expert_similarity(*model.checkpoint, 1, pool, stop_later).status().code(), FINERMOE_ERROR_CANCELLED);
  EXPECT_EQ(n_asked, 3);
}

}  // namespace
}  // namespace finermoe
