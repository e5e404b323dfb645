// How fast this machine reads memory, which limits decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "reading.h"

namespace tool {

// Bytes that threads read once each, as decoding reads weights.
class ReadBandwidth {
 public:
  // Reads memory that the program allocates.
  ReadBandwidth(size_t bytes, unsigned n_threads);
  // Reads a mapping of the model's largest file, or of its first `bytes` bytes; nullopt if it cannot be mapped.
  static std::optional<ReadBandwidth> of_model(const std::string& model, size_t bytes, unsigned n_threads);

  // Bytes per second of whichever way is the fastest just now, over about half a second of passes.
  double measure();
  ReadingWay way() const { return way_; }  // of the last measurement
  size_t bytes() const { return 8 * n_words_; }

 private:
  ReadBandwidth(std::shared_ptr<const uint64_t> words, size_t n_words, unsigned n_threads)
      : n_words_(n_words), n_threads_(n_threads), words_(std::move(words)) {}
  double pass(const ReadingWay& way) const;  // seconds

  size_t n_words_;
  unsigned n_threads_;
  std::shared_ptr<const uint64_t> words_;
  ReadingWay way_;
};

}  // namespace tool
