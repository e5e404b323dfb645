// How long opening a checkpoint takes: open_checkpoint MODEL [REPETITIONS], best and median in milliseconds as JSON.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "format/checkpoint.h"

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [REPETITIONS]\n", argv[0]);
    return 2;
  }
  int repetitions = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 20;
  std::vector<double> times;
  size_t n_tensors = 0;
  for (int i = 0; i < repetitions; i++) {
    auto begin = std::chrono::steady_clock::now();
    auto checkpoint = finermoe::Checkpoint::open(argv[1], {false, std::make_shared<finermoe::MemoryAccount>(0), {}});
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    if (!checkpoint.ok()) {
      std::fprintf(stderr, "%s\n", checkpoint.status().message().c_str());
      return 1;
    }
    n_tensors = (*checkpoint)->tensors().size();
  }
  std::sort(times.begin(), times.end());
  std::printf("{\"tensors\": %zu, \"best_ms\": %.3f, \"median_ms\": %.3f}\n", n_tensors, times.front(),
              times[times.size() / 2]);
  return 0;
}
