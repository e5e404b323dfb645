// The sampler against its description: the random stream, each processor, their order.
#include "sampling/sampler.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <map>
#include <random>

namespace finermoe {
namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

std::map<int32_t, int> frequencies(const SamplingOptions& options, const std::vector<float>& logits, int n = 20000) {
  Sampler sampler(options, {});
  std::map<int32_t, int> counts;
  for (int i = 0; i < n; i++) counts[*sampler.choose(logits, {})]++;
  return counts;
}

// ln of probabilities 0.5, 0.25, 0.125, 0.0625, 0.0625
const std::vector<float> halves = {std::log(0.5f), std::log(0.25f), std::log(0.125f), std::log(0.0625f),
                                   std::log(0.0625f)};

TEST(Pcg32, IsTheDocumentedStream) {
  // Computed with arbitrary-precision integers from the definition: seed 42 on the default increment.
  Pcg32 random(42);
  uint64_t state = 0;
  auto step = [&] {
    const uint64_t old = state;
    state = old * 6364136223846793005u + 1442695040888963407u;
    return old;
  };
  step();
  state += 42;
  step();
  for (int i = 0; i < 1000; i++) {
    const uint64_t old = step();
    const uint32_t x = static_cast<uint32_t>(((old >> 18) ^ old) >> 27);
    const int r = static_cast<int>(old >> 59);
    EXPECT_EQ(random.next(), r == 0 ? x : (x >> r | x << (32 - r)));
  }
}

TEST(Sampler, GreedyTakesTheFirstOfTheLargest) {
  Sampler sampler({}, {});
  EXPECT_EQ(*sampler.choose(std::vector<float>{1, 3, 3, 2}, {}), 1);
}

TEST(Sampler, TemperatureIsASoftmax) {
  SamplingOptions options;
  options.temperature = 1;
  for (auto [id, count] : frequencies(options, halves)) EXPECT_NEAR(count / 20000.0, std::exp(halves[id]), 0.015) << id;
  options.temperature = 0.5;  // squares the probabilities
  double sum = 0;
  for (float l : halves) sum += std::exp(2 * l);
  for (auto [id, count] : frequencies(options, halves))
    EXPECT_NEAR(count / 20000.0, std::exp(2 * halves[id]) / sum, 0.015);
}

TEST(Sampler, SeedsRepeatAndDiffer) {
  SamplingOptions options;
  options.temperature = 1;
  auto draws = [&](uint64_t seed) {
    options.seed = seed;
    Sampler sampler(options, {});
    std::vector<int32_t> out;
    for (int i = 0; i < 50; i++) out.push_back(*sampler.choose(halves, {}));
    return out;
  };
  EXPECT_EQ(draws(7), draws(7));
  EXPECT_NE(draws(7), draws(8));
}

TEST(Sampler, TopKKeepsTiesWithTheKth) {
  SamplingOptions options;
  options.temperature = 1;
  options.top_k = 2;
  EXPECT_EQ(frequencies(options, halves).size(), 2u);
  options.top_k = 4;
  EXPECT_EQ(frequencies(options, halves).size(), 5u);  // ids 3 and 4 are equal
}

TEST(Sampler, TopPKeepsTheSmallestSetThatReachesP) {
  SamplingOptions options;
  options.temperature = 1;
  for (auto [p, kept] : std::map<double, size_t>{{0.3, 1}, {0.49, 1}, {0.6, 2}, {0.74, 2}, {0.8, 3}, {0.9, 4}}) {
    options.top_p = p;
    EXPECT_EQ(frequencies(options, halves).size(), kept) << p;
  }
  // Over many candidates, where only a head of them is sorted.
  std::vector<float> flat(1000);
  for (size_t i = 0; i < flat.size(); i++) flat[i] = 1e-4f * static_cast<float>(i % 7);
  options.top_p = 0.5;
  const auto kept = frequencies(options, flat, 50000);
  EXPECT_GT(kept.size(), 450u);
  EXPECT_LE(kept.size(), 501u);
}

TEST(Sampler, MinPIsRelativeToTheLikeliest) {
  SamplingOptions options;
  options.temperature = 1;
  options.min_p = 0.2;  // of 0.5: keeps 0.5, 0.25, 0.125
  EXPECT_EQ(frequencies(options, halves).size(), 3u);
}

TEST(Sampler, TypicalKeepsWhatIsClosestToTheEntropy) {
  // Entropy 1.875 bits = 1.30 nats; surprises 0.69, 1.39, 2.08, 2.77, 2.77: the second is closest, then the first.
  SamplingOptions options;
  options.temperature = 1;
  options.typical_p = 0.2;
  EXPECT_EQ(frequencies(options, halves), (std::map<int32_t, int>{{1, 20000}}));
  options.typical_p = 0.5;
  const auto two = frequencies(options, halves);
  EXPECT_EQ(two.size(), 2u);
  EXPECT_TRUE(two.contains(0) && two.contains(1));
}

TEST(Sampler, RepetitionPenaltyDividesAndMultiplies) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  Sampler sampler(options, {});
  sampler.saw_prompt(std::array{0});
  EXPECT_EQ(*sampler.choose(std::vector<float>{3, 2, -9}, {}), 1);  // 3 becomes 1.5
  Sampler negative(options, {});
  negative.saw_prompt(std::array{0});
  EXPECT_EQ(*negative.choose(std::vector<float>{-1, -1.5, -9}, {}), 1);  // -1 becomes -2
}

TEST(Sampler, FrequencyAndPresenceCountWhatWasGenerated) {
  SamplingOptions options;
  options.frequency_penalty = 0.5;
  Sampler frequency(options, {});
  frequency.saw_prompt(std::array{0});  // the prompt does not count
  EXPECT_EQ(*frequency.choose(std::vector<float>{2, 1.2f}, {}), 0);
  frequency.saw_generated(0);
  EXPECT_EQ(*frequency.choose(std::vector<float>{2, 1.2f}, {}), 0);  // 1.5
  frequency.saw_generated(0);
  EXPECT_EQ(*frequency.choose(std::vector<float>{2, 1.2f}, {}), 1);  // 1.0
  options = {};
  options.presence_penalty = 0.9;
  Sampler presence(options, {});
  presence.saw_generated(0);
  presence.saw_generated(0);
  EXPECT_EQ(*presence.choose(std::vector<float>{2, 1.2f}, {}), 1);  // 1.1, however often
  EXPECT_EQ(*presence.choose(std::vector<float>{2, 1.05f}, {}), 0);
}

TEST(Sampler, BiasComesBeforeTheRepetitionPenalty) {
  SamplingOptions options;
  options.repetition_penalty = 2;
  options.logit_bias[0] = 4;
  Sampler sampler(options, {});
  sampler.saw_prompt(std::array{0});
  EXPECT_EQ(*sampler.choose(std::vector<float>{0, 2.5f}, {}), 1);  // (0 + 4) / 2; the other order would give 4
}

TEST(Sampler, ForbiddenTokensNeverCome) {
  SamplingOptions options;
  options.logit_bias[0] = -infinity;
  Sampler greedy(options, {2});
  const std::vector<int32_t> now = {3};
  EXPECT_EQ(*greedy.choose(std::vector<float>{9, 1, 8, 7}, now), 1);
  options.temperature = 5;
  Sampler hot(options, {2});
  for (int i = 0; i < 500; i++) EXPECT_EQ(*hot.choose(std::vector<float>{9, 1, 8, 7}, now), 1);
  EXPECT_EQ(greedy.choose(std::vector<float>{9, -infinity, 8, 7}, now).status().code(), FINERMOE_ERROR_STATE);
}

TEST(Sampler, NotANumberIsAnError) {
  Sampler sampler({}, {});
  EXPECT_EQ(sampler.choose(std::vector<float>{1, NAN, 2}, {}).status().code(), FINERMOE_ERROR_NOT_FINITE);
}

TEST(Sampler, AnInfiniteLogitTakesAll) {
  SamplingOptions options;
  options.temperature = 1;
  EXPECT_EQ(frequencies(options, {1, infinity, 2}, 100), (std::map<int32_t, int>{{1, 100}}));
}

TEST(Sampler, TheSmallestTemperaturesAreGreedy) {
  const std::vector<float> close = {std::nextafter(5.0f, 0.0f), -1, 5, -3}, negative = {-8, -7.5f, -9};
  for (double temperature : {1e-30, 1e-40, 1e-308, std::numeric_limits<double>::denorm_min()}) {
    for (double top_p : {1.0, 0.9}) {
      for (double min_p : {0.0, 0.1}) {
        for (double typical_p : {1.0, 0.5}) {
          SamplingOptions options;
          options.temperature = temperature;
          options.top_p = top_p;
          options.min_p = min_p;
          options.typical_p = typical_p;
          EXPECT_EQ(frequencies(options, close, 200), (std::map<int32_t, int>{{2, 200}})) << temperature;
          EXPECT_EQ(frequencies(options, negative, 200), (std::map<int32_t, int>{{1, 200}})) << temperature;
          EXPECT_EQ(frequencies(options, {1, infinity, 2}, 200), (std::map<int32_t, int>{{1, 200}})) << temperature;
        }
      }
    }
  }
  SamplingOptions options;
  options.temperature = std::numeric_limits<double>::denorm_min();
  EXPECT_EQ(frequencies(options, {3, 1, 3}, 200).size(), 2u);  // equals share, as the limit of a softmax does
}

// docs/sampling.md from temperature to draw, word for word: everything sorted, in double precision.
class Definition {
 public:
  explicit Definition(const SamplingOptions& options) : options_(options), random_(options.seed) {}

  int32_t choose(const std::vector<float>& logits) {
    const float largest = *std::max_element(logits.begin(), logits.end());
    std::vector<float> sorted = logits;
    std::sort(sorted.begin(), sorted.end(), std::greater<>());
    const bool is_cut = options_.top_k != 0 && options_.top_k < logits.size();
    const float least = is_cut ? sorted[options_.top_k - 1] : -infinity;
    left_.clear();
    for (size_t i = 0; i < logits.size(); i++) {
      if (logits[i] < least || logits[i] == -infinity) continue;
      const double x = logits[i] == largest ? 0 : (double{logits[i]} - largest) / options_.temperature;
      left_.push_back({static_cast<int32_t>(i), std::exp(double{static_cast<float>(x)})});
    }
    keep_top_p();
    keep_min_p();
    keep_typical();
    normalize();
    const double u = random_.uniform();
    double sum = 0;
    for (const Candidate& c : left_) {
      if (u < (sum += c.probability)) return c.id;
    }
    return left_.back().id;
  }

 private:
  struct Candidate {
    int32_t id;
    double probability;
  };
  void normalize() {
    double sum = 0;
    for (const Candidate& c : left_) sum += c.probability;
    for (Candidate& c : left_) c.probability /= sum;
  }
  void keep_top_p() {
    if (options_.top_p >= 1) return;
    normalize();
    std::stable_sort(left_.begin(), left_.end(), [](auto& a, auto& b) { return a.probability > b.probability; });
    size_t n = 0;
    for (double sum = 0; n < left_.size() && (n == 0 || sum < options_.top_p); n++) sum += left_[n].probability;
    left_.resize(n);
    std::sort(left_.begin(), left_.end(), [](auto& a, auto& b) { return a.id < b.id; });
  }
  void keep_min_p() {
    double most = 0;
    for (const Candidate& c : left_) most = std::max(most, c.probability);
    std::erase_if(left_, [&](const Candidate& c) { return c.probability < options_.min_p * most; });
  }
  void keep_typical() {
    if (options_.typical_p >= 1) return;
    normalize();
    double entropy = 0;
    for (const Candidate& c : left_) entropy -= c.probability == 0 ? 0 : c.probability * std::log(c.probability);
    const auto distance = [&](const Candidate& c) { return std::abs(-std::log(c.probability) - entropy); };
    std::vector<Candidate> sorted = left_;
    std::stable_sort(sorted.begin(), sorted.end(), [&](auto& a, auto& b) { return distance(a) < distance(b); });
    size_t last = 0;
    for (double sum = sorted[0].probability; sum < options_.typical_p && last + 1 < sorted.size();) {
      sum += sorted[++last].probability;
    }
    std::erase_if(left_, [&](const Candidate& c) { return distance(c) > distance(sorted[last]) * (1 + 1e-12); });
  }

  SamplingOptions options_;
  Pcg32 random_;
  std::vector<Candidate> left_;
};

TEST(Sampler, ChoosesWhatTheDefinitionChooses) {
  std::mt19937 random(1);
  const auto one_of = [&](auto... values) {
    const std::array all{static_cast<double>(values)...};
    return all[random() % all.size()];
  };
  for (int round = 0; round < 600; round++) {
    SamplingOptions options;
    options.temperature = one_of(0.05, 0.7, 1, 3);
    options.top_k = static_cast<uint64_t>(one_of(0, 0, 1, 5, 50, 3000));
    options.top_p = one_of(1, 1, 0.1, 0.95, 0.9999);
    options.min_p = one_of(0, 0, 0.02, 0.5, 1);
    options.typical_p = one_of(1, 1, 0.2, 0.95);
    options.seed = random();
    const size_t vocab = static_cast<size_t>(one_of(1, 2, 7, 1000, 5003));
    const float spread = static_cast<float>(one_of(0, 1e-3, 1, 5, 40));
    std::normal_distribution<float> normal(static_cast<float>(one_of(-100, 0, 20)), 1);
    std::vector<float> logits(vocab);
    Sampler sampler(options, {});
    Definition definition(options);
    for (int token = 0; token < 10; token++) {
      const bool is_coarse = round % 3 == 0;  // full of ties
      for (float& x : logits) x = is_coarse ? std::round(spread * normal(random)) : spread * normal(random);
      if (round % 5 == 0) logits[random() % vocab] = vocab == 1 ? 0 : -infinity;
      EXPECT_EQ(*sampler.choose(logits, {}), definition.choose(logits))
          << "round " << round << ", " << vocab << " ids, spread " << spread << ", temperature " << options.temperature
          << ", top-k " << options.top_k << ", top-p " << options.top_p << ", min-p " << options.min_p << ", typical "
          << options.typical_p;
    }
  }
}

// Two or four numbers at a time give the same bits, and they are those of exp().
TEST(Weigh, TheNumberOfLanesDoesNotShow) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, 100);
  for (const size_t n : {1, 2, 3, 4, 5, 7, 64, 1001}) {
    std::vector<float> logits(n), scaled(n + 3), scaled_by_four(n + 3);
    std::vector<double> weights(n + 3), weights_by_four(n + 3);
    for (float& x : logits) x = normal(random);
    if (n > 4) logits[4] = -infinity;
    const double largest = *std::max_element(logits.begin(), logits.end());
    weigh_with(2)(logits.data(), n, largest, 1 / 0.7, scaled.data(), weights.data());
    for (size_t i = 0; i < n; i++) {
      EXPECT_EQ(scaled[i], static_cast<float>((logits[i] - largest) * (1 / 0.7)));
      EXPECT_NEAR(weights[i], std::exp(double{scaled[i]}), 1e-14 * weights[i] + 1e-307);
    }
    Weigh* const by_four = weigh_with(4);
    if (by_four == nullptr) GTEST_SKIP() << "this processor has no AVX2";
    by_four(logits.data(), n, largest, 1 / 0.7, scaled_by_four.data(), weights_by_four.data());
    for (size_t i = 0; i < n; i++) {
      EXPECT_EQ(scaled_by_four[i], scaled[i]) << i << " of " << n;
      EXPECT_EQ(weights_by_four[i], weights[i]) << i << " of " << n;
    }
  }
}

TEST(LogProbabilities, AreALogSoftmax) {
  const LogProbabilities own(halves);
  for (size_t i = 0; i < halves.size(); i++) EXPECT_NEAR(own.of(static_cast<int32_t>(i)), halves[i], 1e-6);
  EXPECT_EQ(own.top(3), (std::vector<int32_t>{0, 1, 2}));
  EXPECT_EQ(own.top(99).size(), halves.size());
}

}  // namespace
}  // namespace finermoe
