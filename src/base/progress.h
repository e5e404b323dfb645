// How long calls report progress and are cancelled. Both happen on the calling thread only.
#pragma once

#include <atomic>
#include <memory>

#include "base/status.h"

namespace finermoe {

// A flag that any thread may raise.
using CancelFlag = std::atomic<bool>;

struct Progress {
  finermoe_progress_fn callback = nullptr;
  void* user = nullptr;
  std::shared_ptr<const CancelFlag> cancel;  // may be null

  // Reports, and returns FINERMOE_ERROR_CANCELLED if the host wants to stop.
  Status report(const char* phase, uint64_t done, uint64_t total) const {
    bool stop = cancel && cancel->load(std::memory_order_relaxed);
    if (callback && callback(user, phase, done, total) != 0) stop = true;
    return stop ? Status(FINERMOE_ERROR_CANCELLED, format_text("cancelled while at ", phase)) : Status();
  }
};

}  // namespace finermoe
