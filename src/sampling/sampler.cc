#include "sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace finermoe {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// Independent chains of a reduction over the vocabulary, so that the compiler can vectorize it.
constexpr size_t n_chains = 16;

// The largest, ignoring NaN; -infinity if there is none.
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

// A SIMD vector of four floats, which every 64-bit processor supports.
using Lanes = float __attribute__((vector_size(16)));
using Words = uint32_t __attribute__((vector_size(16)));

// e^x for x <= 0 within 2 ulp; NaN stays NaN. Below -87 it is e^-87.
Lanes exp_below_zero(Lanes x) {
  constexpr float round_by = 0x1.8p23f, least = -87;  // adding and subtracting round_by rounds to an integer
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
  constexpr size_t width = sizeof(Lanes) / sizeof(float), run = 64;  // short enough for a float sum
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

void Sampler::saw_prompt(std::span<const int32_t> ids) {
  if (!has_penalties()) return;
  seen_.reserve(seen_.size() + ids.size());  // all or nothing
  for (int32_t id : ids) seen_.push_back({id, 0});
  // Brings equal ids together, the one already counted first.
  std::sort(seen_.begin(), seen_.end(),
            [](const Seen& a, const Seen& b) { return a.id != b.id ? a.id < b.id : a.n_generated > b.n_generated; });
  const auto same = [](const Seen& a, const Seen& b) { return a.id == b.id; };
  seen_.erase(std::unique(seen_.begin(), seen_.end(), same), seen_.end());
}

void Sampler::saw_generated(int32_t id) {
  if (!has_penalties()) return;
  auto place = std::lower_bound(seen_.begin(), seen_.end(), id, [](const Seen& s, int32_t i) { return s.id < i; });
  if (place == seen_.end() || place->id != id) place = seen_.insert(place, {id, 0});
  place->n_generated++;
}

// Hugging Face's order: bias, repetition penalty, (frequency and presence penalty, which it does not have), banned
// words, minimum length.
void Sampler::process(std::span<const int32_t> forbidden) {
  auto at = [&](int32_t id) -> float& { return logits_[static_cast<size_t>(id)]; };
  for (auto [id, bias] : options_.logit_bias) at(id) += bias;
  if (options_.repetition_penalty != 1) {
    const float penalty = static_cast<float>(options_.repetition_penalty);
    for (const Seen& s : seen_) at(s.id) = at(s.id) < 0 ? at(s.id) * penalty : at(s.id) / penalty;
  }
  if (options_.frequency_penalty != 0 || options_.presence_penalty != 0) {
    for (auto [id, n] : seen_) {
      if (n > 0) at(id) -= static_cast<float>(options_.frequency_penalty * n + options_.presence_penalty);
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

  distribution_.assign(logits_, largest, options_.temperature, options_.top_k);
  if (options_.top_p < 1) distribution_.keep_top_p(options_.top_p);
  if (options_.min_p > 0) distribution_.keep_min_p(options_.min_p);
  if (options_.typical_p < 1) distribution_.keep_typical(options_.typical_p);
  return distribution_.draw(random_.uniform());
}

LogProbabilities::LogProbabilities(std::span<const float> logits)
    : logits_(logits),
      largest_(largest_of(logits)),
      sum_(sum_of_exponentials(logits, largest_)),
      log_sum_(largest_ + std::log(sum_)) {}

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
