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
  // An upper bound on the bytes of experts in memory, counting those that were brought in by use.
  uint64_t resident() const;

  // How many of the next experts of a layer may be used together, so that as many more can be read in the meantime. At
  // least 1.
  //   chosen [≥ 1] ascending indices among the experts of all layers
  size_t run_length(std::span<const uint32_t> chosen) const;
  // Announces that these experts will be used soon; those of earlier calls lose any priority.
  void will_use(std::span<const uint32_t> experts);

 private:
  struct Extent {
    uint32_t file;
    uint64_t begin, end;  // bytes
    uint64_t size() const { return end - begin; }
  };
  struct Expert {
    std::vector<Extent> extents;
    uint64_t bytes = 0;                   // that are mapped when it is used
    std::list<uint32_t>::iterator place;  // in recent_; recent_.end(): not in memory
  };
  void add(uint32_t expert, const Tensor& tensor);
  // The part of a file that is mapped when an extent is used.
  Extent mapped_by(const Extent& used) const;
  // Moves experts to the front of the LRU list; returns what no longer fits the budget.
  std::vector<Extent> make_room(std::span<const uint32_t> experts);

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const Options options_;
  const std::shared_ptr<ThreadPool> pool_;
  std::vector<Expert> experts_;  // of all layers
  uint64_t largest_ = 0;

  mutable std::mutex mutex_;
  std::list<uint32_t> recent_;  // in memory, most recently used first
  uint64_t resident_ = 0;
};

}  // namespace finermoe
