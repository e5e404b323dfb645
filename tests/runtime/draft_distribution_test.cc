// Sampled tokens that a model drafted have the distribution of the model itself.
#include <cmath>
#include <map>

#include "../support/changed_model.h"
#include "drafts.h"
#include "whatever_it_costs.h"

namespace {

constexpr size_t n_likeliest = 4, n_in_a_row = 3;
using Tokens = std::array<int32_t, n_in_a_row>;

// The probability of each sequence of tokens behind the prompt, from the logits of a session that computed each on its
// own: a softmax over the likeliest.
std::map<Tokens, double> probabilities(finermoe_model* of, const Ids& prompt, double temperature) {
  std::map<Tokens, double> out;
  const std::function<void(const Ids&, double)> add = [&](const Ids& ids, double reached) {
    if (ids.size() == prompt.size() + n_in_a_row) {
      Tokens tokens{};
      std::copy(ids.end() - n_in_a_row, ids.end(), tokens.begin());
      out[tokens] = reached;
      return;
    }
    const std::vector<float> logits = logits_behind(of, ids);
    std::vector<std::pair<double, int32_t>> likeliest;
    for (size_t id = 0; id < logits.size(); id++) likeliest.emplace_back(logits[id], static_cast<int32_t>(id));
    std::sort(likeliest.rbegin(), likeliest.rend());
    double sum = 0;
    for (size_t i = 0; i < n_likeliest; i++) sum += std::exp((likeliest[i].first - likeliest[0].first) / temperature);
    for (size_t i = 0; i < n_likeliest; i++) {
      Ids longer = ids;
      longer.push_back(likeliest[i].second);
      add(longer, reached * std::exp((likeliest[i].first - likeliest[0].first) / temperature) / sum);
    }
  };
  add(prompt, 1);
  return out;
}

// Pearson's statistic, and what it exceeds by chance once in a million times (Wilson and Hilferty).
struct ChiSquare {
  double found = 0, limit = 0;
  ChiSquare(const std::map<Tokens, double>& expected, const std::map<Tokens, size_t>& counts, size_t n) {
    double rare = 0, n_rare = static_cast<double>(n), freedom = -1;
    const auto add = [&](double of_expected, double count) {
      found += (count - of_expected) * (count - of_expected) / of_expected;
      freedom++;
    };
    for (const auto& [tokens, probability] : expected) {
      const double of_expected = probability * static_cast<double>(n);
      const auto count = counts.find(tokens);
      const double n_found = count == counts.end() ? 0 : static_cast<double>(count->second);
      if (of_expected < 10) {
        rare += of_expected;
        continue;
      }
      add(of_expected, n_found);
      n_rare -= n_found;
    }
    if (rare > 0) add(rare, n_rare);  // with whatever cannot come at all
    const double spread = 2 / (9 * freedom);
    limit = freedom * std::pow(1 - spread + 4.7534 * std::sqrt(spread), 3);
  }
};

uint64_t mixed(uint64_t x) {  // SplitMix64
  x += 0x9E3779B97F4A7C15u;
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  x = (x ^ x >> 27) * 0x94D049BB133111EBu;
  return x ^ x >> 31;
}

TEST(DraftedTokens, HaveTheDistributionOfTheModelItself) {
  const size_t n_requests = unless_emulated<size_t>(33334, 1000);  // 100,000 tokens
  const size_t n_per_biased = unless_emulated<size_t>(50, 10);     // as many show the smaller bias, or the larger one
  constexpr double temperature = 0.7;
  const RuntimeHandle runtime = open_runtime(1);
  const std::string shape = golden::source_root() + "/tests/data/shapes/c32a2";
  const ChangedModel similar(shape);
  similar.fill("model.norm.weight", 0, 4, 0);  // of 64
  const ModelHandle of = open_model(shape, runtime.get()), by = open_model(similar.path(), runtime.get());
  const Ids prompt = {5, 9, 200, 31, 77};
  auto on = open_session(of.get(), 64);
  append(on.get(), prompt);
  auto made = generation_options(of.get());
  EXPECT_DONE(finermoe_generation_options_set_temperature(made.get(), temperature, e));
  EXPECT_DONE(finermoe_generation_options_set_top_k(made.get(), n_likeliest, e));
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(made.get(), n_in_a_row, e));
  EXPECT_DONE(finermoe_generation_options_clear_stop_tokens(made.get(), e));
  EXPECT_DONE(finermoe_generation_options_set_draft(made.get(), by.get(), n_in_a_row, e));
  draft_whatever_it_costs(made.get());
  std::map<Tokens, size_t> counts, biased;
  uint64_t n_drafted = 0, n_accepted = 0;
  const auto expected = probabilities(of.get(), prompt, temperature);
  for (size_t i = 0; i < n_requests && !testing::Test::HasFailure(); i++) {
    EXPECT_DONE(finermoe_session_truncate(on.get(), prompt.size(), e));
    EXPECT_DONE(finermoe_generation_options_set_seed(made.get(), mixed(i), e));
    auto generation = generate(on.get(), made.get(), {});
    const Generated out = run_out(generation.get());
    Tokens tokens{};
    std::copy(out.ids.begin(), out.ids.end(), tokens.begin());
    counts[tokens]++;
    biased[i % n_per_biased == 0 ? expected.begin()->first : tokens]++;  // as if a wrong draft were kept now and then
    n_drafted += info_of(generation.get()).n_drafted;
    n_accepted += info_of(generation.get()).n_accepted;
  }
  EXPECT_GT(n_accepted, n_drafted / 10);
  EXPECT_LT(n_accepted, n_drafted * 9 / 10);
  const ChiSquare own(expected, counts, n_requests), planted(expected, biased, n_requests);
  EXPECT_LT(own.found, own.limit);
  EXPECT_GT(planted.found, planted.limit);
}

}  // namespace
