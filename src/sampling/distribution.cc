#include "sampling/distribution.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace finermoe {
namespace {

constexpr float minus_infinity = -std::numeric_limits<float>::infinity();

// A SIMD vector: of two numbers, which every 64-bit processor supports, or of four. Results do not depend on the width.
template <size_t N>
struct Vector {
  typedef double Doubles __attribute__((vector_size(N * sizeof(double))));
  typedef uint64_t Words __attribute__((vector_size(N * sizeof(double))));
  typedef float Floats __attribute__((vector_size(N * sizeof(float))));
};
using Lanes = Vector<2>::Doubles;
constexpr size_t most_lanes = 4;

// e^x for x <= 0 within ten ulp; 0 below -708, where the result would become subnormal.
template <size_t N>
[[gnu::always_inline]] inline typename Vector<N>::Doubles exp_below_zero(typename Vector<N>::Doubles x) {
  using Doubles = typename Vector<N>::Doubles;
  using Words = typename Vector<N>::Words;
  constexpr double round_by = 0x1.8p52, least = -708;  // adding and subtracting round_by rounds to an integer
  const Words is_zero = reinterpret_cast<Words>(x < least);
  x = reinterpret_cast<Doubles>((is_zero & std::bit_cast<uint64_t>(least)) | (~is_zero & reinterpret_cast<Words>(x)));
  const Doubles shifted = x * 0x1.71547652b82fep0 + round_by, n = shifted - round_by;
  // The eighth power of e^(r / 8), whose Taylor series is short.
  const Doubles r = ((x - n * 0x1.62e42fee00000p-1) - n * 0x1.a39ef35793c76p-33) * 0.125;  // ln 2 in two parts
  const Doubles r2 = r * r;
  Doubles p = ((r * (1.0 / 5040) + 1.0 / 720) * r2 + (r * (1.0 / 120) + 1.0 / 24)) * (r2 * r2) +
              ((r * (1.0 / 6) + 0.5) * r2 + (r + 1));
  p *= p;
  p *= p;
  p *= p;
  return reinterpret_cast<Doubles>(~is_zero & (reinterpret_cast<Words>(p) + (reinterpret_cast<Words>(shifted) << 52)));
}

template <size_t N>
[[gnu::always_inline]] inline void weigh_all(const float* logits, size_t n, double largest, double factor,
                                             float* scaled, double* weights) {
  using Doubles = typename Vector<N>::Doubles;
  using Floats = typename Vector<N>::Floats;
  for (size_t i = 0; i < n; i += N) {
    Floats of_logits{};
    if (i + N <= n) {
      std::memcpy(&of_logits, logits + i, sizeof of_logits);
    } else {
      std::memcpy(&of_logits, logits + i, (n - i) * sizeof(float));
    }
    const Doubles x = (__builtin_convertvector(of_logits, Doubles) - largest) * factor;
    const Floats rounded = __builtin_convertvector(x, Floats);
    const Doubles e = exp_below_zero<N>(__builtin_convertvector(rounded, Doubles));
    std::memcpy(scaled + i, &rounded, sizeof rounded);
    std::memcpy(weights + i, &e, sizeof e);
  }
}

void weigh_by_two(const float* logits, size_t n, double largest, double factor, float* scaled, double* weights) {
  weigh_all<2>(logits, n, largest, factor, scaled, weights);
}
#if defined(__x86_64__)
[[gnu::target("avx2")]] void weigh_by_four(const float* logits, size_t n, double largest, double factor, float* scaled,
                                           double* weights) {
  weigh_all<4>(logits, n, largest, factor, scaled, weights);
}
#endif

Lanes load(const double* x) {
  Lanes lanes;
  std::memcpy(&lanes, x, sizeof lanes);
  return lanes;
}

// The sum of n numbers, in blocks whose order does not depend on n.
double sum_of(const double* x, size_t n) {
  Lanes sums[4]{};
  size_t i = 0;
  for (; i + 8 <= n; i += 8) {
    for (size_t lane = 0; lane < 4; lane++) sums[lane] += load(x + i + 2 * lane);
  }
  double rest = 0;
  for (; i < n; i++) rest += x[i];
  const Lanes sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  return (sum[0] + sum[1]) + rest;
}

// Bits that order floats: a < b exactly if ordered_bits(a) < ordered_bits(b).
uint32_t ordered_bits(float x) {
  const auto bits = std::bit_cast<uint32_t>(x + 0.0f);  // -0 becomes 0
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// Where to cut a list sorted by ascending key (ties by position): all smaller keys are kept, and the first `n_equal` of
// those with this key.
template <class Key>
struct Cut {
  Key key;
  size_t n_equal;
};

// Finds the shortest prefix of the sorted list whose weights reach `mass`; at least one element, or all if they never
// do.
//   keys       [n]
//   weight_of  place -> weight, equal for equal keys
// Radix selection: a histogram over the highest bits in which the keys differ tells which bucket contains the cut, and
// only that one is refined.
template <class Key, class WeightOf>
Cut<Key> find_cut(std::span<const Key> keys, WeightOf&& weight_of, double mass, RadixScratch& scratch) {
  constexpr int bits = 11;
  constexpr size_t n_buckets = size_t{1} << bits, n_chains = 4;  // separate chains, as neighbors often share a bucket
  constexpr size_t few = 128;                                    // sorting this few is faster than counting
  std::vector<uint32_t>& undecided = scratch.undecided;          // used once some are decided
  std::vector<double>& sums = scratch.sums;                      // [n_buckets, n_chains]
  bool is_first = true;
  size_t n = keys.size();
  double before = 0;  // total weight of the keys smaller than all undecided ones
  for (;;) {
    const auto place = [&](size_t i) { return is_first ? i : undecided[i]; };
    if (n <= few) {
      if (is_first) {
        undecided.resize(std::max(undecided.size(), n));
        std::iota(undecided.begin(), undecided.begin() + static_cast<ptrdiff_t>(n), 0);
      }
      std::sort(undecided.begin(), undecided.begin() + static_cast<ptrdiff_t>(n),
                [&](uint32_t a, uint32_t b) { return keys[a] != keys[b] ? keys[a] < keys[b] : a < b; });
      size_t kept = 0, n_equal = 0;
      for (double sum = before; kept < n && (kept == 0 || sum < mass); kept++) {
        n_equal = kept > 0 && keys[undecided[kept]] == keys[undecided[kept - 1]] ? n_equal + 1 : 1;
        sum += weight_of(undecided[kept]);
      }
      return {keys[undecided[kept - 1]], n_equal};
    }
    Key least = std::numeric_limits<Key>::max(), most = 0;
    for (size_t i = 0; i < n; i++) {
      const Key key = keys[place(i)];
      least = key < least ? key : least;
      most = key > most ? key : most;
    }
    if (least == most) {
      size_t kept = 0;
      for (double sum = before; kept < n && (kept == 0 || sum < mass); kept++) sum += weight_of(place(kept));
      return {least, kept};
    }
    const int shift = std::max(static_cast<int>(std::bit_width(static_cast<Key>(least ^ most))) - bits, 0);
    const auto bucket_of = [&](Key key) { return static_cast<size_t>(key >> shift) % n_buckets; };
    sums.assign(n_buckets * n_chains, 0);
    for (size_t i = 0; i < n; i++) sums[bucket_of(keys[place(i)]) * n_chains + i % n_chains] += weight_of(place(i));

    const size_t last = bucket_of(most);
    size_t chosen = bucket_of(least);
    for (;; chosen++) {
      const double* of_bucket = &sums[chosen * n_chains];
      const double sum = (of_bucket[0] + of_bucket[1]) + (of_bucket[2] + of_bucket[3]);
      if (chosen == last || before + sum >= mass) break;
      before += sum;
    }
    size_t remaining = 0;
    undecided.resize(std::max(undecided.size(), n));
    for (size_t i = 0; i < n; i++) {
      const size_t candidate = place(i);
      undecided[remaining] = static_cast<uint32_t>(candidate);
      remaining += bucket_of(keys[candidate]) == chosen;
    }
    is_first = false;
    n = remaining;
  }
}

}  // namespace

Weigh* weigh_with(size_t n_lanes) {
  if (n_lanes == 2) return weigh_by_two;
#if defined(__x86_64__)
  if (n_lanes == 4 && __builtin_cpu_supports("avx2")) return weigh_by_four;
#endif
  return nullptr;
}

void Distribution::assign(std::span<const float> logits, float largest, double temperature, uint64_t top_k) {
  const size_t room = (logits.size() + most_lanes - 1) / most_lanes * most_lanes;
  ids_.resize(room);
  scaled_.resize(room);
  weights_.resize(room);
  n_ = logits.size();
  has_all_ = top_k == 0 || top_k >= logits.size();
  if (!has_all_) {
    choose_largest(logits, top_k);
    logits = {scaled_.data(), n_};
  }
  // The largest is subtracted before the division: however small the temperature, the result is 0 for the largest and
  // at worst -infinity for the others.
  double factor = 1 / temperature;
  if (std::isinf(largest) || std::isinf(factor)) {  // the largest gets all the probability
    for (size_t i = 0; i < n_; i++) scaled_[i] = logits[i] == largest ? 0 : minus_infinity;
    logits = {scaled_.data(), n_};
    largest = 0;
    factor = 1;
  }
  Weigh* const widest = weigh_with(4);
  (widest != nullptr ? widest : weigh_with(2))(logits.data(), n_, largest, factor, scaled_.data(), weights_.data());
}

// The ids and logits of the k largest.
void Distribution::choose_largest(std::span<const float> logits, uint64_t k) {
  keys_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); i++) keys_[i] = ~ordered_bits(logits[i]);
  const std::span<const uint32_t> keys(keys_);
  const auto cut = find_cut(
      keys, [](size_t) { return 1.0; }, static_cast<double>(k), radix_);
  n_ = 0;
  for (size_t i = 0; i < logits.size(); i++) {
    ids_[n_] = static_cast<int32_t>(i);
    scaled_[n_] = logits[i];
    n_ += keys_[i] <= cut.key;
  }
}

template <class Keep>
void Distribution::keep_if(Keep&& keep) {
  size_t n = 0;
  for (size_t i = 0; i < n_; i++) {
    ids_[n] = id_at(i);
    scaled_[n] = scaled_[i];
    weights_[n] = weights_[i];
    n += keep(i) ? 1 : 0;
  }
  n_ = n;
  has_all_ = false;
}

void Distribution::keep_top_p(double p) {
  keys_.resize(ids_.size());
  for (size_t i = 0; i < n_; i++) keys_[i] = std::bit_cast<uint32_t>(0.0f - scaled_[i]);
  const std::span<const uint32_t> keys(keys_.data(), n_);
  const auto cut = find_cut(
      keys, [&](size_t i) { return weights_[i]; }, p * sum_of(weights_.data(), n_), radix_);
  size_t n_equal = 0;
  keep_if([&](size_t i) { return keys_[i] < cut.key || (keys_[i] == cut.key && n_equal++ < cut.n_equal); });
}

void Distribution::keep_min_p(double p) {
  const double least = p * *std::max_element(weights_.begin(), weights_.begin() + static_cast<ptrdiff_t>(n_));
  keep_if([&](size_t i) { return weights_[i] >= least; });
}

void Distribution::keep_typical(double p) {
  const double total = sum_of(weights_.data(), n_), log_total = std::log(total);
  double moment = 0;  // of the surprise
  for (size_t i = 0; i < n_; i++) moment += weights_[i] == 0 ? 0 : weights_[i] * double{scaled_[i]};
  const double entropy = log_total - moment / total;
  wide_keys_.resize(ids_.size());
  for (size_t i = 0; i < n_; i++) {
    wide_keys_[i] = std::bit_cast<uint64_t>(std::abs((log_total - double{scaled_[i]}) - entropy));
  }
  const std::span<const uint64_t> keys(wide_keys_.data(), n_);
  const auto cut = find_cut(
      keys, [&](size_t i) { return weights_[i]; }, p * total, radix_);
  keep_if([&](size_t i) { return wide_keys_[i] <= cut.key; });
}

int32_t Distribution::draw(double u) const {
  constexpr size_t block = 256;
  const double wanted = u * sum_of(weights_.data(), n_);
  size_t i = 0;
  double sum = 0;
  for (double next; i + block < n_ && (next = sum + sum_of(&weights_[i], block)) <= wanted; i += block) sum = next;
  for (; i < n_; i++) {
    sum += weights_[i];
    if (wanted < sum) return id_at(i);
  }
  // In case of rounding: the last candidate with a nonzero probability.
  size_t last = n_ - 1;
  while (last > 0 && weights_[last] == 0) last--;
  return id_at(last);
}

}  // namespace finermoe
