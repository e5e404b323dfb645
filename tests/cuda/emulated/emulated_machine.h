// What the emulated driver keeps, of the whole process.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <vector>

#include "emulated_driver.h"

namespace emulated {

struct Allocation {
  uint64_t bytes;
  void* mapping;
  uint64_t mapped;
};

using Work = std::function<finermoe::cuda::Code()>;

// What was captured, with the arguments that it had then; memory is read when it is done.
using Graph = std::vector<Work>;

// A queue of what has been asked for.
struct Stream {
  std::recursive_mutex mutex;
  std::deque<Work> queue;
  uint64_t n_enqueued = 0, n_done = 0;  // ever
  std::shared_ptr<Graph> captured;      // while capturing
  bool is_invalidated = false;          // the capture
};

// What a stream had been asked for when the event was recorded.
struct Event {
  std::shared_ptr<Stream> stream;
  uint64_t n_enqueued = 0;
};

struct Machine {
  std::shared_mutex mutex;
  std::map<uintptr_t, Allocation> device, pinned;  // by address
  uint64_t allocated = 0;
  std::map<Stream*, std::shared_ptr<Stream>> streams;
  std::map<Event*, std::unique_ptr<Event>> events;
  std::map<Graph*, std::shared_ptr<Graph>> templates, graphs;
  Calls calls;
  std::atomic<int> n_contexts{0}, n_contexts_made{0};
  std::atomic<unsigned> n_launches{0};
  std::atomic<uint64_t> n_host_waits{0};
  std::atomic<finermoe::cuda::Code> lost{finermoe::cuda::success};  // what every call answers after a fault
  std::mutex fault_mutex;
  std::string fault;
  std::atomic<pid_t> process{0};  // in which the driver was started
  Settings settings;

  // What a call in a context answers before it does anything.
  finermoe::cuda::Code answer() {
    if (settings.calls_until_failure != 0 && --settings.calls_until_failure == 0) {
      return finermoe::cuda::error_out_of_memory;
    }
    return lost;
  }
};
inline Machine& machine() {
  static Machine own;
  return own;
}

}  // namespace emulated
