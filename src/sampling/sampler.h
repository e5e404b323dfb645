// From logits to a token: logits processors in Hugging Face's order, then one draw. Described in docs/sampling.md.
#pragma once

#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "base/status.h"
#include "sampling/distribution.h"
#include "sampling/sampling_options.h"

namespace finermoe {

// PCG-XSH-RR 64/32 (O'Neill, "PCG: A Family of Simple Fast Space-Efficient Statistically Good Algorithms for Random
// Number Generation", 2014), on its default stream.
class Pcg32 {
 public:
  explicit Pcg32(uint64_t seed) {
    next();
    state_ += seed;
    next();
  }
  uint32_t next() {
    const uint64_t old = state_;
    state_ = old * 6364136223846793005u + 1442695040888963407u;
    const uint32_t shifted = static_cast<uint32_t>(((old >> 18) ^ old) >> 27),
                   rotation = static_cast<uint32_t>(old >> 59);
    return shifted >> rotation | shifted << ((32 - rotation) & 31);
  }
  // In [0, 1), a multiple of 2^-53: 27 bits of one number above 26 of the next.
  double uniform() {
    const uint64_t high = next() >> 5, low = next() >> 6;
    return static_cast<double>(high << 26 | low) * 0x1p-53;
  }
  uint64_t state() const { return state_; }
  void set_state(uint64_t state) { state_ = state; }

 private:
  uint64_t state_ = 0;
};

class Sampler {
 public:
  // never: ids that cannot be chosen (rows of the vocabulary without a token)
  Sampler(SamplingOptions options, std::vector<int32_t> never)
      : options_(std::move(options)), never_(std::move(never)), random_(options_.seed) {}

  // Record tokens of the prompt, and one generated token, for the penalties.
  void saw_prompt(std::span<const int32_t> ids);
  void saw_generated(int32_t id);
  // The largest id recorded for the penalties, or -1: choose() needs logits for it.
  int32_t largest_seen() const { return seen_.empty() ? -1 : seen_.back().id; }

  // The state that changes with the tokens: with the same options, a sampler can resume where another one stopped.
  struct Seen {
    int32_t id;
    uint32_t n_generated;
  };
  struct State {
    uint64_t random = 0;
    std::vector<Seen> seen;  // ascending by id; empty without penalties
  };
  State state() const { return {random_.state(), seen_}; }
  void set_state(State state) {
    random_.set_state(state.random);
    seen_ = std::move(state.seen);
  }
  const SamplingOptions& options() const { return options_; }
  const std::vector<int32_t>& never() const { return never_; }
  // Whether the choice depends on nothing but the logits, temperature, top-k, top-p, min-p and a random number.
  bool is_plain() const { return !has_penalties() && options_.logit_bias.empty() && options_.typical_p == 1; }
  // A copy of the random numbers of the choices to come; and a choice, if it was made elsewhere.
  Pcg32 random() const { return random_; }
  void chose_elsewhere() {
    if (options_.temperature != 0) random_.uniform();
  }
  // The state of the random stream, to undo what choose() consumed.
  uint64_t random_state() const { return random_.state(); }
  void set_random_state(uint64_t state) { random_.set_state(state); }
  // Reserves room for one more token, so that saw_generated() cannot fail.
  void reserve() {
    if (seen_.size() == seen_.capacity()) seen_.reserve(2 * seen_.size() + 1);
  }

  // logits [vocab] of the model; forbidden: further ids that cannot be chosen now.
  Result<int32_t> choose(std::span<const float> logits, std::span<const int32_t> forbidden);

 private:
  bool has_penalties() const {
    return options_.repetition_penalty != 1 || options_.frequency_penalty != 0 || options_.presence_penalty != 0;
  }
  void process(std::span<const int32_t> forbidden);

  SamplingOptions options_;
  std::vector<int32_t> never_;
  Pcg32 random_;
  std::vector<Seen> seen_;
  std::vector<float> logits_;  // [vocab] being processed
  Distribution distribution_;  // of the remaining candidates
};

// Log-probabilities of a model's own distribution.
class LogProbabilities {
 public:
  explicit LogProbabilities(std::span<const float> logits);
  // Whether they form a distribution: no logit is NaN or +infinity, and not all are -infinity.
  bool are_finite() const { return std::isfinite(log_sum_); }
  float of(int32_t id) const { return static_cast<float>(logits_[static_cast<size_t>(id)] - log_sum_); }
  // The same of one logit, from what is known of all: the largest, and the sum of exp(logit - largest).
  static float of(float logit, float largest, double sum) {
    return static_cast<float>(logit - (largest + std::log(sum)));
  }
  float largest() const { return largest_; }
  double sum() const { return sum_; }
  // The n likeliest ids, likeliest first, ties by lower id.
  std::vector<int32_t> top(size_t n) const;

 private:
  std::span<const float> logits_;
  float largest_;
  double sum_, log_sum_;
};

}  // namespace finermoe
