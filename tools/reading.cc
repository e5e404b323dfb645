#include "reading.h"

namespace tool {

namespace {

constexpr ReadingWay ways[] = {{1, 0},    {2, 0},    {4, 0},     {8, 0},     {1, 1024},  {1, 6144}, {2, 6144},
                               {4, 6144}, {8, 6144}, {1, 12288}, {2, 12288}, {4, 12288}, {8, 12288}};

// Eight independent sums for each stream, so that no addition waits for the previous one.
template <unsigned n_streams>
uint64_t sum_words(const uint64_t* words, size_t n, size_t bytes_ahead) {
  uint64_t sums[n_streams][8] = {};
  for (size_t begin = 0; begin + n_streams * row_words <= n; begin += n_streams * row_words) {
    for (size_t column = 0; column < row_words; column += 8) {
      for (unsigned stream = 0; stream < n_streams; stream++) {
        const uint64_t* const at = words + begin + stream * row_words + column;
        if (bytes_ahead != 0) __builtin_prefetch(reinterpret_cast<const char*>(at) + bytes_ahead);
        for (size_t lane = 0; lane < 8; lane++) sums[stream][lane] += at[lane];
      }
    }
  }
  uint64_t sum = 0;
  for (const auto& of_stream : sums) {
    for (const uint64_t lane : of_stream) sum += lane;
  }
  return sum;
}

}  // namespace

std::span<const ReadingWay> reading_ways() { return ways; }

uint64_t sum_words(const uint64_t* words, size_t n, const ReadingWay& way) {
  switch (way.n_streams) {
    case 2:
      return sum_words<2>(words, n, way.bytes_ahead);
    case 4:
      return sum_words<4>(words, n, way.bytes_ahead);
    case 8:
      return sum_words<8>(words, n, way.bytes_ahead);
    default:
      return sum_words<1>(words, n, way.bytes_ahead);
  }
}

}  // namespace tool
