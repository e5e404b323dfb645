// Processor time to choose a token from logits of a large vocabulary: one JSON object a line, the median over rounds.
//   sampler-speed [VOCAB [ROUNDS]]        (default: 151936, 51)
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "sampling/sampler.h"

namespace finermoe {
namespace {

struct Case {
  const char* name;
  SamplingOptions options;
};

double processor_milliseconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e3 * double(t.tv_sec) + 1e-6 * double(t.tv_nsec);
}

SamplingOptions options_of(double temperature, uint64_t top_k = 0, double top_p = 1, double min_p = 0,
                           double typical_p = 1) {
  SamplingOptions options;
  options.temperature = temperature;
  options.top_k = top_k;
  options.top_p = top_p;
  options.min_p = min_p;
  options.typical_p = typical_p;
  return options;
}

// What a trained model gives: few likely tokens above a long tail. And the hardest: noise, and nothing at all.
std::vector<float> logits_like(const char* shape, size_t vocab) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> logits(vocab);
  const bool is_peaked = shape[0] == 'p', is_noise = shape[0] == 'n';
  for (float& x : logits) x = is_peaked ? 3 * normal(random) : is_noise ? 1e-3f * normal(random) : 0;
  if (is_peaked) {
    for (size_t i = 0; i < 20; i++) logits[i * 7919 % vocab] = 14 + normal(random);
  }
  return logits;
}

void measure(const Case& one, const char* shape, size_t vocab, int n_rounds) {
  const std::vector<float> logits = logits_like(shape, vocab);
  Sampler sampler(one.options, {});
  std::vector<double> milliseconds;
  for (int round = 0; round <= n_rounds; round++) {
    const double begin = processor_milliseconds();
    const auto id = sampler.choose(logits, {});
    const double taken = processor_milliseconds() - begin;
    if (id.ok() && round > 0) milliseconds.push_back(taken);  // the first one allocates
  }
  std::nth_element(milliseconds.begin(), milliseconds.begin() + n_rounds / 2, milliseconds.end());
  std::printf("{\"sampler\": \"%s\", \"logits\": \"%s\", \"vocab\": %zu, \"milliseconds\": %.4f}\n", one.name, shape,
              vocab, milliseconds[static_cast<size_t>(n_rounds / 2)]);
}

}  // namespace
}  // namespace finermoe

int main(int n_arguments, char** arguments) {
  using namespace finermoe;
  const size_t vocab = n_arguments > 1 ? std::strtoull(arguments[1], nullptr, 10) : 151936;
  const int n_rounds = n_arguments > 2 ? std::atoi(arguments[2]) : 51;
  const Case cases[] = {{"greedy", options_of(0)},
                        {"temperature", options_of(0.8)},
                        {"top-k 50", options_of(0.8, 50)},
                        {"top-p 0.95", options_of(0.8, 0, 0.95)},
                        {"min-p 0.05", options_of(0.8, 0, 1, 0.05)},
                        {"typical 0.95", options_of(0.8, 0, 1, 0, 0.95)},
                        {"top-k 50, top-p 0.95", options_of(0.8, 50, 0.95)}};
  for (const char* shape : {"peaked", "noise", "flat"}) {
    for (const Case& one : cases) measure(one, shape, vocab, n_rounds);
  }
}
