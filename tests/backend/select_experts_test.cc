// The router's selection against a plain restatement of docs/finermoe-layer.md, with equal and with extreme logits.
#include "backend/select_experts.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <vector>

namespace finermoe {
namespace {

struct Selection {
  std::vector<int32_t> experts, groups;
  std::vector<float> weights;
};

RouterShape shape_of(uint64_t g_i, uint64_t r_i, uint64_t g_o, uint64_t r_o, uint64_t t_i) {
  RouterShape shape;
  shape.granularity_inter = g_i, shape.expansion_inter = r_i;
  shape.granularity_output = g_o, shape.expansion_output = r_o, shape.top_inter = t_i;
  return shape;
}

Selection select(const RouterShape& shape, const std::vector<float>& logits, const float* scores = nullptr) {
  Selection s{std::vector<int32_t>(shape.n_experts_per_token()), std::vector<int32_t>(shape.granularity_output),
              std::vector<float>(shape.n_experts_per_token())};
  select_experts(shape, logits.data(), scores, s.experts.data(), s.weights.data(), s.groups.data());
  return s;
}

// Steps 2 to 5, one after the other, in long double.
Selection plain(const RouterShape& shape, const std::vector<float>& logits, const float* scores) {
  Selection s;
  const size_t size = shape.group_size();
  for (size_t component = 0; component < shape.granularity_output; component++) {
    size_t winner = 0;
    long double best = -INFINITY;
    for (size_t r = 0; r < shape.expansion_output; r++) {
      const size_t group = component * shape.expansion_output + r;
      long double score = scores != nullptr ? scores[group] : 0;
      for (size_t i = 0; scores == nullptr && i < size; i++) score += (long double)logits[group * size + i];
      if (r == 0 || score > best) best = score, winner = group;
    }
    std::vector<int32_t> order(size);
    std::iota(order.begin(), order.end(), int32_t(winner * size));
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return logits[size_t(a)] > logits[size_t(b)]; });
    s.experts.insert(s.experts.end(), order.begin(), order.begin() + long(shape.top_inter));
    s.groups.push_back(int32_t(winner));
  }
  std::sort(s.experts.begin(), s.experts.end());
  std::vector<size_t> over(s.experts.begin(), s.experts.end());
  if (shape.softmax_over_all) over.resize(logits.size()), std::iota(over.begin(), over.end(), 0);
  long double largest = -INFINITY, sum = 0, kept = 0;
  for (size_t i : over) largest = std::max(largest, (long double)logits[i]);
  for (size_t i : over) sum += std::exp((long double)logits[i] - largest);
  for (int32_t i : s.experts) kept += std::exp((long double)logits[size_t(i)] - largest) / sum;
  for (int32_t i : s.experts) {
    const long double weight = std::exp((long double)logits[size_t(i)] - largest) / sum;
    s.weights.push_back(float(shape.norm_topk_prob ? weight / kept : weight));
  }
  return s;
}

void expect_as_specified(const RouterShape& shape, const std::vector<float>& logits, const float* scores = nullptr) {
  const Selection found = select(shape, logits, scores), expected = plain(shape, logits, scores);
  ASSERT_EQ(expected.experts, found.experts);
  ASSERT_EQ(expected.groups, found.groups);
  for (size_t i = 0; i < found.weights.size(); i++) ASSERT_NEAR(expected.weights[i], found.weights[i], 1e-6);
}

TEST(SelectExperts, RandomLogitsOfEveryShape) {
  std::mt19937 generator(1);
  std::normal_distribution<float> normal(0, 2);
  const RouterShape shapes[] = {shape_of(32, 1, 2, 2, 1), shape_of(1, 32, 1, 1, 2), shape_of(16, 1, 1, 1, 4),
                                shape_of(8, 8, 1, 1, 8),  shape_of(1, 1, 1, 2, 1),  shape_of(32, 1, 2, 2, 4),
                                shape_of(4, 2, 4, 8, 3),  shape_of(64, 1, 8, 2, 2), shape_of(4, 1, 2, 2, 4)};
  for (const RouterShape& base : shapes) {
    for (int variant = 0; variant < 8; variant++) {
      RouterShape shape = base;
      shape.norm_topk_prob = variant & 1;
      shape.softmax_over_all = variant & 2;
      shape.separate = variant & 4;
      for (int repeat = 0; repeat < 20; repeat++) {
        std::vector<float> logits(shape.n_experts()), scores(shape.n_groups());
        // Few distinct values in every other round: ties everywhere.
        for (float& value : logits) value = repeat % 2 ? std::round(normal(generator)) : normal(generator);
        for (float& value : scores) value = repeat % 2 ? std::round(normal(generator)) : normal(generator);
        expect_as_specified(shape, logits, shape.separate ? scores.data() : nullptr);
      }
    }
  }
}

TEST(SelectExperts, TheExampleOfTheDocument) {
  const Selection s = select(shape_of(2, 1, 2, 2, 1), {2, -1, 0.9f, 0.8f, 0.5f, 0.5f, 1.5f, -0.5f});
  EXPECT_EQ((std::vector<int32_t>{1, 2}), s.groups);
  EXPECT_EQ((std::vector<int32_t>{2, 4}), s.experts);
  EXPECT_NEAR(0.599, s.weights[0], 5e-4);
  EXPECT_NEAR(0.401, s.weights[1], 5e-4);
}

TEST(SelectExperts, EqualLogitsGoToTheLowestIndices) {
  const Selection s = select(shape_of(256, 1, 2, 2, 3), std::vector<float>(1024, 0.25f));
  EXPECT_EQ((std::vector<int32_t>{0, 1, 2, 512, 513, 514}), s.experts);
  EXPECT_EQ((std::vector<int32_t>{0, 2}), s.groups);
  for (float weight : s.weights) EXPECT_FLOAT_EQ(1.0f / 6, weight);
}

TEST(SelectExperts, GroupSumsNeitherOverflowNorLoseTheSmallOnes) {
  const RouterShape shape = shape_of(4, 1, 1, 2, 1);
  // float32 would make both sums 0 (or infinite); the second group is larger by 1.
  EXPECT_EQ(1, select(shape, {1e15f, -1e15f, 0, 0, 1e15f, -1e15f, 1, 0}).groups[0]);
  EXPECT_EQ(1, select(shape, {3e38f, 3e38f, -3e38f, -3e38f, 3e38f, 3e38f, 0, 0}).groups[0]);
  EXPECT_EQ(0, select(shape, {1e30f, 1e30f, 1e30f, 1e30f, -1e30f, 1e30f, 1e30f, 1e30f}).groups[0]);
  // The winning group decides even where the largest logit lies in another one.
  const Selection s = select(shape, {5, -9, -9, -9, 1, 2, 2, 1});
  EXPECT_EQ(1, s.groups[0]);
  EXPECT_EQ(5, s.experts[0]);
}

TEST(SelectExperts, ExtremeLogitsGiveFiniteWeights) {
  const RouterShape shape = shape_of(2, 1, 2, 1, 2);
  const Selection s = select(shape, {1e30f, -1e30f, 3.4e38f, -3.4e38f});
  EXPECT_EQ((std::vector<float>{0, 0, 1, 0}), s.weights);
}

TEST(NotFinite, NamesTheRowAndTheExpertOrGroup) {
  const RouterShape shape = shape_of(4, 1, 2, 2, 1);
  std::vector<float> logits(16, 1e30f), scores(4);
  EXPECT_EQ(-1, find_not_finite(shape, logits.data(), scores.data()));
  for (float wrong : {NAN, INFINITY, -INFINITY}) {
    logits[5] = wrong;
    const Status status = not_finite(shape, 7, find_not_finite(shape, logits.data(), nullptr));
    EXPECT_EQ(FINERMOE_ERROR_NOT_FINITE, status.code());
    EXPECT_NE(std::string::npos, status.message().find("row 7, expert 5")) << status.message();
    logits[5] = 0;
    scores[2] = wrong;
    const int32_t group = find_not_finite(shape, logits.data(), scores.data());
    EXPECT_NE(std::string::npos, not_finite(shape, 7, group).message().find("group 2"));
    scores[2] = 0;
  }
}

// Nothing is read or written out of bounds, whatever the logits are.
TEST(SelectExperts, LogitsThatAreNotFiniteChooseExpertsAllTheSame) {
  const RouterShape shape = shape_of(4, 1, 2, 2, 2);
  for (float wrong : {NAN, INFINITY, -INFINITY}) {
    for (size_t at = 0; at < 16; at++) {
      std::vector<float> logits(16, 1);
      logits[at] = wrong;
      std::vector<int32_t> experts(4), groups(2);
      std::vector<float> weights(4);
      select_experts(shape, logits.data(), nullptr, experts.data(), weights.data(), groups.data());
      EXPECT_TRUE(std::is_sorted(experts.begin(), experts.end()));
      for (size_t i = 0; i < 4; i++) EXPECT_EQ(shape.component_of(uint64_t(experts[i])), i / 2);
    }
  }
}

}  // namespace
}  // namespace finermoe
