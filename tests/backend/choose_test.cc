// A token chosen by a device is the one that the sampler chooses from the same logits, with the same random number, and
// its probability has the same bits; or the device leaves the row to the host.
#include <numeric>

#include "sampling/sampler.h"
#include "support.h"

namespace finermoe {
namespace {

constexpr uint64_t columns = 8;

// Logits that a product with a unit vector gives exactly: one column of the head for each row.
class Chooser {
 public:
  Chooser(Backend& backend, size_t n_rows, uint64_t vocab) : config_(config_of(columns, 8, {}, 0)), vocab_(vocab) {
    config_.vocab_size = vocab;
    on_.emplace(backend, config_, n_rows);
  }
  // Nothing where the device leaves all to the host.
  std::optional<std::vector<ChosenToken>> choose(const std::vector<std::vector<float>>& logits, uint64_t n_choosable,
                                                 const std::vector<TokenChoice>& choices) {
    std::vector<float> head(vocab_ * columns), x(logits.size() * columns);
    for (size_t row = 0; row < logits.size(); row++) {
      x[row * columns + row] = 1;
      for (size_t i = 0; i < vocab_; i++) head[i * columns + row] = logits[row][i];
    }
    const Tensor tensor{.name = "head",
                        .dtype = DType::f32,
                        .rows = vocab_,
                        .columns = columns,
                        .data = reinterpret_cast<const std::byte*>(head.data())};
    Operations& on = on_->begin();
    const WeightView bound = on.bind(tensor);
    std::vector<ChosenToken> out(logits.size());
    const bool chooses = on->choose(on.put(x), bound, logits.size(), n_choosable, choices, out.data());
    EXPECT_TRUE(on->wait().ok());
    on->end();
    if (!chooses) return {};
    return out;
  }

 private:
  Config config_;
  const uint64_t vocab_;
  std::optional<Operations> on_;
};

struct Setting {
  double temperature;
  uint64_t top_k;
  double top_p, min_p;
};
void PrintTo(const Setting& s, std::ostream* out) {
  *out << "temperature " << s.temperature << ", top_k " << s.top_k << ", top_p " << s.top_p << ", min_p " << s.min_p;
}
const std::vector<Setting> settings = {
    {0, 0, 1, 0},         {1, 0, 1, 0},        {0.7, 20, 0.8, 0},    {1.5, 5, 1, 0},       {1, 1, 1, 0},
    {1, 39, 0.3, 0.05},   {1, 1 << 30, 1, 0},  {1, 0, 0.9, 0},       {1, 0, 0.05, 0},      {1, 0, 1, 0.1},
    {1e-3, 0, 1, 0},      {1e-30, 10, 0.9, 0}, {1e-320, 10, 0.9, 0}, {0.8, 0, 0.95, 0.02}, {1000, 7, 0.5, 0},
    {1, 0, 1, 0.9999999}, {1, 50, 1, 0}};

class Choosing : public EveryDevice {
 protected:
  // Compares with the sampler; whether the device left the row to the host.
  static bool expect_same(const std::vector<float>& logits, uint64_t n_choosable, const Setting& setting, uint64_t seed,
                          const ChosenToken& found) {
    if (found.id == -1) return true;
    const Sampler fresh = sampler(logits, n_choosable, setting, seed);
    Sampler sampler = fresh;
    const auto expected = sampler.choose(logits, {});
    EXPECT_TRUE(expected.ok());
    EXPECT_EQ(*expected, found.id) << testing::PrintToString(setting) << ", seed " << seed << ", vocabulary "
                                   << logits.size();
    const LogProbabilities own(logits);
    EXPECT_EQ(own.of(*expected), LogProbabilities::of(found.logit, found.largest, found.sum));
    EXPECT_EQ(own.sum(), found.sum);
    Sampler elsewhere = fresh;
    elsewhere.chose_elsewhere();
    EXPECT_EQ(sampler.random_state(), elsewhere.random_state());
    return false;
  }
  static Sampler sampler(const std::vector<float>& logits, uint64_t n_choosable, const Setting& setting,
                         uint64_t seed) {
    SamplingOptions options;
    options.temperature = setting.temperature;
    options.top_k = setting.top_k;
    options.top_p = setting.top_p;
    options.min_p = setting.min_p;
    options.seed = seed;
    std::vector<int32_t> never;
    for (uint64_t id = n_choosable; id < logits.size(); id++) never.push_back(static_cast<int32_t>(id));
    return Sampler(options, never);
  }
  static TokenChoice choice(const Setting& s, uint64_t seed) {
    SamplingOptions options;
    options.seed = seed;
    return {s.temperature, s.top_k, s.top_p, s.min_p, Sampler(options, {}).random().uniform()};
  }
  // Rows that are left to the host, of all; each row has the same setting and another seed.
  struct Share {
    size_t left = 0, all = 0;
  };
  Share try_all(const std::vector<std::vector<float>>& logits, uint64_t n_choosable, const Setting& setting,
                uint64_t n_seeds) const {
    Share share;
    auto backend = device();
    Chooser chooser(*backend, logits.size(), logits[0].size());
    for (uint64_t seed = 0; seed < n_seeds; seed++) {
      std::vector<TokenChoice> choices;
      for (size_t row = 0; row < logits.size(); row++) choices.push_back(choice(setting, 100 * seed + row));
      const auto found = chooser.choose(logits, n_choosable, choices);
      for (size_t row = 0; row < logits.size(); row++) {
        const bool is_left = !found || expect_same(logits[row], n_choosable, setting, 100 * seed + row, (*found)[row]);
        share.left += is_left;
        share.all++;
      }
    }
    return share;
  }
};
FINERMOE_FOR_EVERY_DEVICE(Choosing);

std::vector<std::vector<float>> random_rows(size_t n, uint64_t vocab, float scale) {
  std::vector<std::vector<float>> rows;
  for (size_t row = 0; row < n; row++) rows.push_back(random_floats(vocab, uint32_t(7 * vocab + row), scale));
  return rows;
}

// Few ids and many; the last ones are no tokens, and among those are the largest.
TEST_P(Choosing, IsTheSamplersChoice) {
  for (const uint64_t vocab : {1, 5, 256, 1027, 2051, 6007}) {
    std::vector<std::vector<float>> rows = random_rows(3, vocab, 3);
    const uint64_t n_choosable = vocab - vocab / 100;
    for (auto& row : rows) std::fill(row.begin() + ptrdiff_t(n_choosable), row.end(), 20.0f);
    for (const Setting& setting : settings) {
      const Share share = try_all(rows, n_choosable, setting, vocab < 2000 ? 4 : 2);
      if (GetParam().name != "cuda_emulated" || setting.temperature == 1e-320) continue;
      // Half of the runs have too few of many ids for a large k or p.
      const bool may_be_left = vocab > 2048 && (setting.top_k > 10 || setting.top_p > 0.5);
      if (!may_be_left || (setting.top_k == 0 && setting.top_p == 1)) {
        EXPECT_EQ(0u, share.left) << testing::PrintToString(setting) << ", vocabulary " << vocab;
      }
    }
  }
}

// Equal logits: the lowest id of the largest, all ties with the k-th, and sums that hit the mass of top-p exactly.
TEST_P(Choosing, TiesFallAsTheSamplersDo) {
  for (const uint64_t vocab : {64, 3000}) {
    std::vector<std::vector<float>> rows(3, std::vector<float>(vocab));
    for (uint64_t i = 0; i < vocab; i++) {
      rows[1][i] = float(i * 7919 % 5);
      rows[2][i] = i % 3 == 0 ? -0.0f : i % 3 == 1 ? 0.0f : -1.0f;
    }
    for (const Setting& setting : settings) try_all(rows, vocab, setting, 3);
    for (const double p : {0.25, 0.5, 0.75}) try_all(rows, vocab, {1, 0, p, 0}, 3);
  }
}

// Random numbers, and masses of top-p, within an ulp of where another token begins: sums in another order do not show.
TEST_P(Choosing, WhereRoundingDecidesTheHostDoes) {
  for (const uint64_t vocab : {900, 3000}) {
    const std::vector<float> logits = random_floats(vocab, 5, 2);
    const float largest = *std::max_element(logits.begin(), logits.end());
    std::vector<double> weights;
    for (const float logit : logits) weights.push_back(std::exp(double(logit - largest)));
    const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
    auto backend = device();
    Chooser chooser(*backend, 8, vocab);
    double sum = 0;
    size_t n_left = 0, n_wrong = 0, n_all = 0;
    for (size_t id = 0; id < vocab; id++) {
      sum += weights[id];
      if (id % (vocab / 20) != 0) continue;
      std::vector<TokenChoice> choices;
      for (int ulps = -4; ulps < 4; ulps++)
        choices.push_back({.temperature = 1, .random = sum / total + ulps * 0x1p-53});
      const auto found = chooser.choose(std::vector(8, logits), vocab, choices);
      for (size_t row = 0; row < 8 && found; row++) {
        Distribution distribution;
        distribution.assign(logits, largest, 1, 0);
        n_left += (*found)[row].id == -1;
        n_wrong += (*found)[row].id != -1 && (*found)[row].id != distribution.draw(choices[row].random);
        n_all++;
      }
    }
    EXPECT_EQ(0u, n_wrong) << "of " << n_all;
    EXPECT_TRUE(GetParam().name != "cuda_emulated" || n_left == n_all) << n_left << " of " << n_all;
  }
}

TEST_P(Choosing, WhatIsNotFiniteIsLeftToTheHost) {
  auto backend = device();
  Chooser chooser(*backend, 1, 700);
  const std::vector<float> good = random_floats(700, 3);
  for (const float bad : {NAN, INFINITY}) {
    for (const size_t at : {0, 300, 699}) {  // the last one is no token
      for (const Setting& setting : {settings[0], settings[2]}) {
        std::vector<float> logits = good;
        logits[at] = bad;
        const auto found = chooser.choose({logits}, 690, {choice(setting, 1)});
        EXPECT_EQ(-1, found ? (*found)[0].id : -1);
      }
    }
  }
  // -infinity is an unlikely token; nothing else is none at all.
  std::vector<float> some(700, -INFINITY);
  some[77] = some[345] = 1;
  for (const Setting& setting : settings) try_all({some}, 690, setting, 4);
  std::vector<float> none(700, -INFINITY);
  none[695] = 1;
  const auto found = chooser.choose({none}, 690, {choice(settings[2], 1)});
  EXPECT_EQ(-1, found ? (*found)[0].id : -1);
}

// More rows than there are logits on the device at a time, each with a choice of its own.
TEST_P(Choosing, ManyRowsHaveTheirOwn) {
  auto backend = device();
  const uint64_t vocab = 300;
  const std::vector<std::vector<float>> few = random_rows(columns, vocab, 3);
  Config config = config_of(columns, 8, {}, 0);
  config.vocab_size = vocab;
  Operations on(*backend, config, 40);
  on.begin();
  std::vector<float> head(vocab * columns), x(40 * columns);
  for (size_t row = 0; row < 40; row++) x[row * columns + row % columns] = 1;
  for (size_t i = 0; i < head.size(); i++) head[i] = few[i % columns][i / columns];
  const Tensor tensor{.name = "head",
                      .dtype = DType::f32,
                      .rows = vocab,
                      .columns = columns,
                      .data = reinterpret_cast<const std::byte*>(head.data())};
  std::vector<TokenChoice> choices;
  const auto setting_of = [](size_t row) { return settings[row % 8]; };
  for (size_t row = 0; row < 40; row++) choices.push_back(choice(setting_of(row), row));
  std::vector<ChosenToken> out(40);
  const WeightView bound = on.bind(tensor);
  if (!on->choose(on.put(x), bound, 40, vocab, choices, out.data())) return;
  ASSERT_TRUE(on->wait().ok());
  size_t n_left = 0;
  for (size_t row = 0; row < 40; row++) {
    n_left += expect_same(few[row % columns], vocab, setting_of(row), row, out[row]);
  }
  EXPECT_GE(8u, n_left);
}

}  // namespace
}  // namespace finermoe
