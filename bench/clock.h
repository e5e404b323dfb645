// How benchmarks measure time.
#pragma once

#include <time.h>

#include <algorithm>
#include <cstdint>
#include <vector>

namespace finermoe::bench {

// A clock that advances by one second for each second in which all threads run.
struct Clock {
  bool wall = true;
  uint32_t n_threads = 1;
  double now() const {
    timespec t;
    clock_gettime(wall ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double(t.tv_sec) + 1e-9 * double(t.tv_nsec)) / (wall ? 1 : n_threads);
  }
};

inline double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size() / 2), values.end());
  return values[values.size() / 2];
}

}  // namespace finermoe::bench
