// How fast this machine reads memory: the limit of decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace tool {

// A buffer that threads read from end to end, as a decoder reads weights.
class ReadBandwidth {
 public:
  ReadBandwidth(size_t bytes, unsigned n_threads);
  double measure() const;  // bytes per second of one pass
  size_t bytes() const { return 8 * n_words_; }

 private:
  size_t n_words_;
  unsigned n_threads_;
  std::unique_ptr<uint64_t[]> words_;
};

}  // namespace tool
