#include "bandwidth.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/stopwatch.h"

namespace tool {

ReadBandwidth::ReadBandwidth(size_t bytes, unsigned n_threads) : n_words_(bytes / 8), n_threads_(n_threads) {
  auto* words = new uint64_t[n_words_];
  words_.reset(words, std::default_delete<uint64_t[]>());
  for (size_t i = 0; i < n_words_; ++i) words[i] = i;  // real pages, not the shared zero page
}

std::optional<ReadBandwidth> ReadBandwidth::of_model(const std::string& model, size_t bytes, unsigned n_threads) {
  namespace fs = std::filesystem;
  fs::path largest = model;
  std::error_code error;
  if (fs::is_directory(model, error)) {
    uintmax_t most = 0;
    for (const fs::directory_entry& entry : fs::directory_iterator(model, error)) {
      const uintmax_t size = entry.is_regular_file(error) ? entry.file_size(error) : 0;
      if (entry.path().extension() == ".safetensors" && size > most) {
        most = size;
        largest = entry.path();
      }
    }
  }
  const int file = open(largest.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return std::nullopt;
  struct stat status {};
  const size_t size = fstat(file, &status) == 0 ? std::min<size_t>(bytes, static_cast<size_t>(status.st_size)) : 0;
  void* mapped = size >= 8 ? mmap(nullptr, size, PROT_READ, MAP_SHARED, file, 0) : MAP_FAILED;
  close(file);
  if (mapped == MAP_FAILED) return std::nullopt;
  std::shared_ptr<const uint64_t> words(static_cast<const uint64_t*>(mapped),
                                        [size](const uint64_t* p) { munmap(const_cast<uint64_t*>(p), size); });
  ReadBandwidth bandwidth(std::move(words), size / 8, n_threads);
  bandwidth.pass({});  // faults the pages in
  return bandwidth;
}

double ReadBandwidth::measure() {
  double least = 0;
  for (const ReadingWay& way : reading_ways()) {
    const double seconds = pass(way);
    if (least != 0 && seconds >= least) continue;
    least = seconds;
    way_ = way;
  }
  const size_t n_read = n_words_ / n_threads_ / (8 * row_words) * (8 * row_words) * n_threads_;  // in any way
  double n_passes = 0, seconds = 0;
  do {
    seconds += pass(way_);
    n_passes++;
  } while (seconds < 0.5);
  return n_passes * static_cast<double>(n_read * 8) / seconds;
}

double ReadBandwidth::pass(const ReadingWay& way) const {
  const finermoe::Stopwatch watch;
  std::atomic<uint64_t> total{0};  // used, so that the reads cannot be optimized away
  const size_t share = n_words_ / n_threads_;
  const auto read_share = [&](unsigned i) { total += sum_words(words_.get() + i * share, share, way); };
  std::vector<std::thread> threads;
  for (unsigned i = 1; i < n_threads_; ++i) threads.emplace_back(read_share, i);
  read_share(0);
  for (std::thread& thread : threads) thread.join();
  const volatile uint64_t used = total.load();
  static_cast<void>(used);
  return watch.seconds();
}

}  // namespace tool
