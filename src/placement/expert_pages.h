// The memory of routed experts, when a model may be larger than the memory available.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "format/checkpoint.h"

namespace finermoe {

// Prefetches the pages of experts before they are used, and evicts those of the least recently used beyond a budget.
// This affects when bytes are in memory, never what is computed. Thread-safe.
class ExpertPages {
 public:
  struct Options {
    bool prefetch = false;
    uint64_t budget = 0;  // bytes; 0: none
  };
  // For a checkpoint whose files are mapped.
  ExpertPages(std::shared_ptr<const Checkpoint> checkpoint, const Options& options, std::shared_ptr<ThreadPool> pool);

  uint64_t largest() const { return largest_; }  // bytes of an expert

  // How many of the next experts of a layer to use at a time, so that as many more can be read meanwhile. At least 1.
  //   chosen [≥ 1] ascending indices among the experts of all layers
  size_t run_length(std::span<const uint32_t> chosen) const;
  // Prefetches these experts, and evicts the least recently used ones beyond the budget.
  void will_use(std::span<const uint32_t> experts);

 private:
  struct Expert {
    std::vector<FileRange> extents;
    uint64_t bytes = 0;                   // that are mapped when it is used
    std::list<uint32_t>::iterator place;  // in recent_; recent_.end(): not in memory
  };
  void add(uint32_t expert, FileRange extent);
  // The part of a file that is mapped when an extent is used.
  FileRange mapped_by(const FileRange& used) const;
  // Moves experts to the front of the LRU list; returns what no longer fits the budget.
  std::vector<FileRange> make_room(std::span<const uint32_t> experts);

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const Options options_;
  const std::shared_ptr<ThreadPool> pool_;
  std::vector<Expert> experts_;  // of all layers
  uint64_t largest_ = 0;

  std::mutex mutex_;
  std::list<uint32_t> recent_;  // in memory, most recently used first
  uint64_t resident_ = 0;
};

}  // namespace finermoe
