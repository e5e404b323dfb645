// Tokens that may come next in a text, and how often such guesses were right lately.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace finermoe {

class Guess {
 public:
  // newest: the weight of the newest guessed token in the rate
  Guess(double rate, double newest) : rate_(rate), newest_(newest) {}

  void reserve(size_t n) { tokens_.reserve(n); }
  void clear() {
    tokens_.clear();
    n_right_ = 0;
  }
  void add(int32_t token) { tokens_.push_back(token); }
  std::span<const int32_t> tokens() const { return tokens_; }

  // A token was chosen: the first of the guess, then the next one, and so on. Behind a wrong one nothing was guessed.
  void chose(int32_t token) {
    if (n_right_ >= tokens_.size()) return;
    const bool is_right = tokens_[n_right_] == token;
    rate_ += ((is_right ? 1.0 : 0.0) - rate_) * newest_;
    n_right_++;
    if (!is_right) clear();
  }
  // Of guessed tokens whose predecessors were right, lately.
  double rate() const { return rate_; }

 private:
  std::vector<int32_t> tokens_;
  size_t n_right_ = 0;  // of them, those that were chosen
  double rate_, newest_;
};

}  // namespace finermoe
