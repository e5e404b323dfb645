// Ways to read memory. Which is the fastest depends on the processor, on the size of its pages and on what else runs: a
// limit is the best of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace tool {

// One row of 3 KiB after the other or several side by side, and how far ahead of the loads the next bytes are
// requested; 0: that is left to the processor.
struct ReadingWay {
  unsigned n_streams = 1;
  size_t bytes_ahead = 0;
};
std::span<const ReadingWay> reading_ways();

// Whole rows of all streams are read; the rest of n, less than 8 rows, is not.
constexpr size_t row_words = 384;
uint64_t sum_words(const uint64_t* words, size_t n, const ReadingWay& way);

}  // namespace tool
