#include "runtime/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace finermoe {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Chains of a reduction over the vocabulary: independent, so that a compiler can use whatever vectors there are.
constexpr size_t n_chains = 16;

// The largest, NaN left out; minus infinity of none.
float largest_of(std::span<const float> x) {
  float chains[n_chains];
  std::fill_n(chains, n_chains, minus_infinity);
  size_t i = 0;
  for (; i + n_chains <= x.size(); i += n_chains) {
    for (size_t c = 0; c < n_chains; c++) chains[c] = x[i + c] > chains[c] ? x[i + c] : chains[c];
  }
  for (; i < x.size(); i++) chains[0] = x[i] > chains[0] ? x[i] : chains[0];
  return *std::max_element(chains, chains + n_chains);
}

bool has_nan(std::span<const float> x) {
  int found = 0;
  for (const float value : x) found |= value != value;
  return found != 0;
}

// Four numbers side by side, as every 64-bit processor can compute with them.
using Lanes = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));

// e^x for x <= 0 within 2 units in the last place; NaN stays NaN. Below -87 it is e^-87.
Lanes exp_below_zero(Lanes x) {
  constexpr float round_by = 0x1.8p23f, least = -87;  // the first added and taken away: rounds to a whole number
  const Words is_less = reinterpret_cast<Words>(x < least), is_nan = reinterpret_cast<Words>(x != x);
  x = reinterpret_cast<Lanes>((is_less & std::bit_cast<uint32_t>(least)) | (~is_less & reinterpret_cast<Words>(x)));
  const Lanes shifted = x * 1.44269504f + round_by, n = shifted - round_by;
  const Lanes r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact in few bits
  Lanes p = r * (1.0f / 5040) + 1.0f / 720;
  p = p * r + 1.0f / 120;
  p = p * r + 1.0f / 24;
  p = p * r + 1.0f / 6;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  return reinterpret_cast<Lanes>((reinterpret_cast<Words>(p) + (reinterpret_cast<Words>(shifted) << 23)) | is_nan);
}

// The sum of exp(x - largest).
double sum_of_exponentials(std::span<const float> x, float largest) {
  constexpr size_t width = sizeof(Lanes) / sizeof(float), run = 64;  // so long, a float's sum loses nothing that shows
  double total = 0;
  const auto add = [&](Lanes sums) { total += double{sums[0]} + double{sums[1]} + double{sums[2]} + double{sums[3]}; };
  Lanes sums{}, four;
  size_t i = 0;
  for (; i + width <= x.size(); i += width) {
    std::memcpy(&four, &x[i], sizeof four);
    sums += exp_below_zero(four - largest);
    if (i / width % run == run - 1) {
      add(sums);
      sums = Lanes{};
    }
  }
  add(sums);
  for (; i < x.size(); i++) total += exp_below_zero(Lanes{} + (x[i] - largest))[0];
  return total;
}

}  // namespace

// Hugging Face's order: bias, repetition penalty, (frequency and presence, which it does not have), banned words,
// minimum length.
void Sampler::process(std::span<const int32_t> forbidden) {
  auto at = [&](int32_t id) -> float& { return logits_[static_cast<size_t>(id)]; };
  for (auto [id, bias] : options_.logit_bias) at(id) += bias;
  if (options_.repetition_penalty != 1) {
    const float penalty = static_cast<float>(options_.repetition_penalty);
    for (int32_t id : seen_) at(id) = at(id) < 0 ? at(id) * penalty : at(id) / penalty;
  }
  if (options_.frequency_penalty != 0 || options_.presence_penalty != 0) {
    for (auto [id, count] : generated_) {
      at(id) -= static_cast<float>(options_.frequency_penalty * count + options_.presence_penalty);
    }
  }
  for (int32_t id : never_) at(id) = minus_infinity;
  for (int32_t id : forbidden) at(id) = minus_infinity;
}

Result<int32_t> Sampler::choose(std::span<const float> logits, std::span<const int32_t> forbidden) {
  logits_.assign(logits.begin(), logits.end());
  process(forbidden);
  if (has_nan(logits_)) {
    return Status(FINERMOE_ERROR_NOT_FINITE, "a logit is not a number: no token can be chosen");
  }
  const float largest = largest_of(logits_);
  if (largest == minus_infinity) {
    return Status(FINERMOE_ERROR_STATE, "every token is forbidden: no token can be chosen");
  }
  if (options_.temperature == 0) {
    return static_cast<int32_t>(std::find(logits_.begin(), logits_.end(), largest) - logits_.begin());
  }

  collect_candidates(largest);
  if (options_.top_p < 1) keep_top_p();
  if (options_.min_p > 0) keep_min_p();
  if (options_.typical_p < 1) keep_typical();
  return draw();
}

// Temperature and top-k. As in Hugging Face, tokens that tie with the k-th stay. The largest is subtracted before the
// division: however small the temperature, what comes of it is 0 for the largest and at worst -infinity for the others.
void Sampler::collect_candidates(float largest) {
  float threshold = minus_infinity;
  if (options_.top_k != 0 && options_.top_k < logits_.size()) {
    std::vector<float> sorted = logits_;
    auto kth = sorted.begin() + static_cast<ptrdiff_t>(options_.top_k) - 1;
    std::nth_element(sorted.begin(), kth, sorted.end(), std::greater<>());
    threshold = *kth;
  }
  candidates_.clear();
  for (size_t i = 0; i < logits_.size(); i++) {
    if (logits_[i] < threshold || logits_[i] == minus_infinity) continue;
    // An infinite logit (set by the host) is the largest, and takes all of the probability.
    const double below = logits_[i] == largest ? 0 : double{logits_[i]} - largest;
    candidates_.push_back({static_cast<int32_t>(i), static_cast<float>(below / options_.temperature), 0});
  }
}

// A softmax over what is left; the candidates are in ascending order of their ids.
void Sampler::compute_probabilities() {
  float largest = minus_infinity;
  for (const Candidate& c : candidates_) largest = std::max(largest, c.logit);
  double sum = 0;
  for (Candidate& c : candidates_) {
    c.probability = std::exp(static_cast<double>(c.logit) - largest);
    sum += c.probability;
  }
  for (Candidate& c : candidates_) c.probability /= sum;
}

// The likeliest tokens whose probabilities together reach p; at least one.
void Sampler::keep_top_p() {
  compute_probabilities();
  auto likelier = [](const Candidate& a, const Candidate& b) {
    return a.probability != b.probability ? a.probability > b.probability : a.id < b.id;
  };
  size_t sorted = 0, kept = 0;
  double sum = 0;
  while (kept < candidates_.size() && (kept == 0 || sum < options_.top_p)) {
    if (kept == sorted) {  // sort a longer head: most distributions need only a little of it
      sorted = std::min(candidates_.size(), std::max<size_t>(64, sorted * 8));
      std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<ptrdiff_t>(sorted), candidates_.end(),
                        likelier);
    }
    sum += candidates_[kept++].probability;
  }
  candidates_.resize(kept);
  std::sort(candidates_.begin(), candidates_.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
}

void Sampler::keep_min_p() {
  compute_probabilities();
  double largest = 0;
  for (const Candidate& c : candidates_) largest = std::max(largest, c.probability);
  std::erase_if(candidates_, [&](const Candidate& c) { return c.probability < options_.min_p * largest; });
}

// Locally typical sampling: the tokens whose surprise is closest to the entropy, until their mass reaches p.
void Sampler::keep_typical() {
  compute_probabilities();
  double entropy = 0;
  for (const Candidate& c : candidates_) {
    if (c.probability > 0) entropy -= c.probability * std::log(c.probability);
  }
  std::vector<std::pair<double, double>> by_distance;  // (distance to the entropy, probability)
  for (const Candidate& c : candidates_) {
    by_distance.emplace_back(std::abs(-std::log(c.probability) - entropy), c.probability);
  }
  std::vector<double> distance(by_distance.size());
  std::transform(by_distance.begin(), by_distance.end(), distance.begin(), [](const auto& d) { return d.first; });
  std::sort(by_distance.begin(), by_distance.end());
  size_t last = 0;
  for (double sum = by_distance[0].second; sum < options_.typical_p && last + 1 < by_distance.size();) {
    sum += by_distance[++last].second;
  }
  const double threshold = by_distance[last].first;
  size_t i = 0;
  std::erase_if(candidates_, [&](const Candidate&) { return distance[i++] > threshold; });
}

// The inverse of the cumulative distribution, over ascending ids.
int32_t Sampler::draw() {
  compute_probabilities();
  const double u = random_.uniform();
  double sum = 0;
  for (const Candidate& c : candidates_) {
    sum += c.probability;
    if (u < sum) return c.id;
  }
  return std::find_if(candidates_.rbegin(), candidates_.rend(), [](const Candidate& c) { return c.probability > 0; })
      ->id;
}

LogProbabilities::LogProbabilities(std::span<const float> logits) : logits_(logits) {
  const float largest = largest_of(logits);
  log_sum_ = largest + std::log(sum_of_exponentials(logits, largest));
}

std::vector<int32_t> LogProbabilities::top(size_t n) const {
  std::vector<int32_t> ids(logits_.size());
  std::iota(ids.begin(), ids.end(), 0);
  n = std::min(n, ids.size());
  std::partial_sort(ids.begin(), ids.begin() + static_cast<ptrdiff_t>(n), ids.end(), [&](int32_t a, int32_t b) {
    const float x = logits_[static_cast<size_t>(a)], y = logits_[static_cast<size_t>(b)];
    return x != y ? x > y : a < b;
  });
  ids.resize(n);
  return ids;
}

}  // namespace finermoe
