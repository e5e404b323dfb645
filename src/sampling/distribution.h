// A distribution over token ids, from logits to one token, that the sampler's filters narrow down.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace finermoe {

// Scratch of a radix selection: the undecided positions, and the histogram.
struct RadixScratch {
  std::vector<uint32_t> undecided;
  std::vector<double> sums;
};

// scaled = (logit - largest) * factor, rounded, and weights = e^scaled.     logits [n]; scaled, weights [n + 3]
using Weigh = void(const float* logits, size_t n, double largest, double factor, float* scaled, double* weights);
// The version for 2 or 4 numbers at a time, bit-identical; null if this processor does not support it.
Weigh* weigh_with(size_t n_lanes);

// Candidates in ascending order of their ids, with unnormalized probabilities. Every filter takes a few passes over the
// candidates, whatever their distribution: none sorts more than a short run of them. Memory is reused from token to
// token.
class Distribution {
 public:
  // Sets the softmax of (logit - largest) / temperature over the `top_k` largest logits and ties with the last of them,
  // or over all (0). `largest` is the largest logit and must not be -infinity; no logit may be NaN.
  void assign(std::span<const float> logits, float largest, double temperature, uint64_t top_k);

  // Keeps the likeliest candidates whose probabilities sum to at least p, ties by lower id; at least one.
  void keep_top_p(double p);
  // Keeps those that are at least p times as likely as the likeliest.
  void keep_min_p(double p);
  // Keeps those whose surprisal is closest to the entropy until their probabilities reach p, and ties with the last.
  void keep_typical(double p);

  // The first id at which the cumulative probability exceeds u, which is in [0, 1).
  int32_t draw(double u) const;

 private:
  void choose_largest(std::span<const float> logits, uint64_t k);
  template <class Keep>
  void keep_if(Keep&& keep);

  int32_t id_at(size_t candidate) const { return has_all_ ? static_cast<int32_t>(candidate) : ids_[candidate]; }

  // [vocab] each, of which the first n_ are candidates.
  size_t n_ = 0;
  bool has_all_ = false;  // the candidates are all ids: ids_ is not filled
  std::vector<int32_t> ids_;
  std::vector<float> scaled_;    // (logit - largest) / temperature: at most 0, and 0 for the likeliest at first
  std::vector<double> weights_;  // e^scaled
  // A filter's sort keys, and its scratch.
  std::vector<uint32_t> keys_;
  std::vector<uint64_t> wide_keys_;
  RadixScratch radix_;
};

}  // namespace finermoe
