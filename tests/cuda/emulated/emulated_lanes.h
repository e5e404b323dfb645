// combine_lanes() of launch.cuh: the lanes wait for each other once, not once for each distance and value.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "block.h"

namespace finermoe::cuda {

template <class T, size_t N, class Combine, unsigned... distances>
void combine_all(emulated::Words* lanes) {
  using Values = std::array<T, N>;
  Values values[warp_size], before[warp_size];
  for (unsigned lane = 0; lane < warp_size; lane++) values[lane] = *emulated::shared_pointer<Values>(lanes[lane]);
  const auto combine_at = [&](unsigned distance) {
    std::copy_n(values, warp_size, before);
    for (unsigned lane = 0; lane < warp_size; lane++) {
      for (size_t i = 0; i < N; i++) values[lane][i] = Combine()(before[lane][i], before[lane ^ distance][i]);
    }
  };
  (combine_at(distances), ...);
  for (unsigned lane = 0; lane < warp_size; lane++) *emulated::shared_pointer<Values>(lanes[lane]) = values[lane];
}

template <unsigned... distances, class T, class Combine>
T combine_lanes(T value, const Combine&) {
  std::array<T, 1> own = {value};
  emulated::share(emulated::words_of(&own), combine_all<T, 1, Combine, distances...>);
  return own[0];
}
template <unsigned... distances, class T, unsigned M, unsigned N, class Combine>
void combine_each(T (&values)[M][N], const Combine&) {
  std::array<T, size_t{M} * N> own;
  std::memcpy(own.data(), values, sizeof values);
  emulated::share(emulated::words_of(&own), combine_all<T, size_t{M} * N, Combine, distances...>);
  std::memcpy(values, own.data(), sizeof values);
}

}  // namespace finermoe::cuda
