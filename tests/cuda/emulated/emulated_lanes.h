// combine_lanes() of launch.cuh: the lanes wait for each other once, not once for each distance.
#pragma once

#include <algorithm>
#include <cstring>

#include "block.h"

namespace finermoe::cuda {

template <class T, class Combine, unsigned... distances>
void combine_all(emulated::Words* lanes) {
  T values[warp_size], before[warp_size];
  for (unsigned lane = 0; lane < warp_size; lane++) std::memcpy(&values[lane], lanes[lane].data(), sizeof(T));
  const auto combine_at = [&](unsigned distance) {
    std::copy_n(values, warp_size, before);
    for (unsigned lane = 0; lane < warp_size; lane++) values[lane] = Combine()(before[lane], before[lane ^ distance]);
  };
  (combine_at(distances), ...);
  for (unsigned lane = 0; lane < warp_size; lane++) std::memcpy(lanes[lane].data(), &values[lane], sizeof(T));
}

template <unsigned... distances, class T, class Combine>
T combine_lanes(T value, const Combine&) {
  emulated::Words words{};
  std::memcpy(words.data(), &value, sizeof value);
  const emulated::Words* const lanes = emulated::share(words, combine_all<T, Combine, distances...>);
  std::memcpy(&value, lanes[emulated_lane()].data(), sizeof value);
  return value;
}

}  // namespace finermoe::cuda
