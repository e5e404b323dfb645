#include "bandwidth.h"

#include <atomic>
#include <thread>
#include <vector>

#include "common.h"

namespace tool {

namespace {

// Eight sums, so that no addition waits for the one before it.
uint64_t sum_words(const uint64_t* words, size_t n) {
  uint64_t sums[8] = {};
  for (size_t i = 0; i + 8 <= n; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum += lane;
  return sum;
}

}  // namespace

ReadBandwidth::ReadBandwidth(size_t bytes, unsigned n_threads)
    : n_words_(bytes / 8), n_threads_(n_threads), words_(new uint64_t[n_words_]) {
  for (size_t i = 0; i < n_words_; ++i) words_[i] = i;  // pages of its own, not the one page of zeros
}

double ReadBandwidth::measure() const {
  std::atomic<uint64_t> total{0};  // used, so that the reads cannot be left out
  const size_t share = n_words_ / n_threads_;
  const auto read_share = [&](unsigned i) { total += sum_words(words_.get() + i * share, share); };
  const double begin = seconds();
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < n_threads_; ++i) threads.emplace_back(read_share, i);
  read_share(0);
  for (std::thread& thread : threads) thread.join();
  const double duration = seconds() - begin;
  return total.load() != 0 ? static_cast<double>(share * n_threads_ * 8) / duration : 0;
}

}  // namespace tool
