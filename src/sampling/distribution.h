// A distribution over token ids on its way from logits to one token: what the sampler's filters keep of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace finermoe {

// What a radix selection needs: the places that it has not decided about, and its histogram.
struct RadixScratch {
  std::vector<uint32_t> undecided;
  std::vector<double> sums;
};

// scaled = (logit - largest) * factor, rounded, and weights = e^scaled.     logits [n]; scaled, weights [n + 3]
using Weigh = void(const float* logits, size_t n, double largest, double factor, float* scaled, double* weights);
// With 2 or 4 numbers at a time, to the same bits; null where this processor cannot.
Weigh* weigh_with(size_t n_lanes);

// Candidates in ascending order of their ids, with probabilities up to a common factor. Every filter is a few passes
// over the candidates, whatever their distribution: none sorts more than a short run of them. Memory is kept from one
// token to the next.
class Distribution {
 public:
  // The softmax of (logit - largest) / temperature over the `top_k` largest logits and what ties with the last of them,
  // or over all (0). `largest` is the largest logit, and not -infinity; no logit is NaN.
  void assign(std::span<const float> logits, float largest, double temperature, uint64_t top_k);

  // The likeliest whose probabilities together reach p, lower ids first among equals; at least one.
  void keep_top_p(double p);
  // Those that are at least p times as likely as the likeliest.
  void keep_min_p(double p);
  // Those whose surprise is closest to the entropy until their probabilities reach p, and what ties with the last.
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
  // What a filter orders by, and its scratch.
  std::vector<uint32_t> keys_;
  std::vector<uint64_t> wide_keys_;
  RadixScratch radix_;
};

}  // namespace finermoe
