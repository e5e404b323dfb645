// How long opening a checkpoint takes: open_checkpoint MODEL [REPETITIONS], as JSON. In processor time: one thread
// works, on files in the page cache, and what else the machine does stays out of the figure.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "format/checkpoint.h"

static double processor_ms() {
  timespec time;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return double(time.tv_sec) * 1e3 + double(time.tv_nsec) * 1e-6;
}

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: %s MODEL [REPETITIONS]\n", argv[0]);
    return 2;
  }
  int repetitions = argc > 2 ? std::max(std::atoi(argv[2]), 1) : 20;
  std::vector<double> times;
  size_t n_tensors = 0;
  for (int i = 0; i < repetitions; i++) {
    double begin = processor_ms();
    auto checkpoint = finermoe::Checkpoint::open(argv[1], {false, std::make_shared<finermoe::MemoryAccount>(0), {}});
    times.push_back(processor_ms() - begin);
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
