// How many drafted tokens pay for their time, by what passes took lately.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

namespace finermoe {

// The median of the last times, so that a pause of the process, or a first pass that reads weights from a disk, counts
// for little.
class RecentTime {
 public:
  void add(double seconds) { last_[n_++ % last_.size()] = seconds; }
  bool is_known() const { return n_ > 0; }
  double seconds() const {
    std::array<double, 5> sorted = last_;
    const auto middle = sorted.begin() + std::min(n_, sorted.size()) / 2;
    std::sort(sorted.begin(), sorted.begin() + std::min(n_, sorted.size()));
    return *middle;
  }

 private:
  std::array<double, 5> last_{};
  size_t n_ = 0;
};

// The cost of a pass without drafts, of each drafted token that it computes, and of drafting one.
class DraftPace {
 public:
  void passed(size_t n_drafts, double seconds) {
    if (n_drafts == 0) {
      plain_.add(seconds);
    } else if (plain_.is_known()) {
      row_.add(std::max(0.0, seconds - plain_.seconds()) / static_cast<double>(n_drafts));
    }
  }
  void drafted(double seconds_of_one) { draft_.add(seconds_of_one); }

  bool knows_plain() const { return plain_.is_known(); }
  double plain_seconds() const { return plain_.seconds(); }
  bool is_known() const { return plain_.is_known() && row_.is_known() && draft_.is_known(); }

  // Tokens per second with n drafts, of which each is right with this probability if those before it are; it takes a
  // draft model's pass for each, or nothing.
  double rate(size_t n, double right, bool by_a_model) const {
    double expected = 1, reached = 1;
    for (size_t i = 0; i < n; i++) expected += reached *= right;
    const double of_one = row_.seconds() + (by_a_model ? draft_.seconds() : 0);
    return expected / (plain_.seconds() + static_cast<double>(n) * of_one);
  }
  // The number of drafts by a model, at most `limit`, that gives the most tokens per second; 0: it is faster without.
  size_t best(double right, size_t limit) const {
    size_t best = 0;
    double best_rate = rate(0, right, true);
    for (size_t n = 1; n <= limit; n++) {
      const double with = rate(n, right, true);
      if (with <= best_rate) break;  // from the maximum on it falls
      best = n, best_rate = with;
    }
    return best;
  }

 private:
  RecentTime plain_, row_, draft_;
};

}  // namespace finermoe
