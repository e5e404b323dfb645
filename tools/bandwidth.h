// How fast this machine reads memory: the limit of decoding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace tool {

// Bytes that threads read from end to end, as a decoder reads weights.
class ReadBandwidth {
 public:
  // Memory of the program's own.
  ReadBandwidth(size_t bytes, unsigned n_threads);
  // A mapping of the model's largest file, or of as much of its beginning; nothing where that cannot be had.
  static std::optional<ReadBandwidth> of_model(const std::string& model, size_t bytes, unsigned n_threads);

  double measure() const;  // bytes per second, over passes that fill about half a second
  size_t bytes() const { return 8 * n_words_; }

 private:
  ReadBandwidth(std::shared_ptr<const uint64_t> words, size_t n_words, unsigned n_threads)
      : n_words_(n_words), n_threads_(n_threads), words_(std::move(words)) {}
  double pass() const;

  size_t n_words_;
  unsigned n_threads_;
  std::shared_ptr<const uint64_t> words_;
};

}  // namespace tool
