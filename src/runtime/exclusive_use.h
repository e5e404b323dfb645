// Objects that are used by one thread at a time and can be closed by any.
#pragma once

#include <atomic>

#include "base/status.h"

namespace finermoe {

// State that sessions, generations and batches have in common: used by one thread at a time, closed by any.
struct UseState {
  std::atomic<bool> in_use{false};
  std::atomic<bool> closed{false};
};

// Holds an object for the duration of a call. check() says whether it could be acquired. The object that a C function
// names is held in `api`; what else takes part, which only `runtime` knows (the session of a request, the members of a
// batch that compute, their traces), is held there.
class ExclusiveUse {
 public:
  ExclusiveUse(UseState& state, const char* what) : state_(state), what_(what) {
    held_ = !state_.in_use.exchange(true, std::memory_order_acquire);
  }
  ~ExclusiveUse() {
    if (held_) state_.in_use.store(false, std::memory_order_release);
  }
  ExclusiveUse(const ExclusiveUse&) = delete;

  bool is_busy() const { return !held_; }
  Status check() const {
    if (!held_) return Status(FINERMOE_ERROR_BUSY, format_text("the ", what_, " is in use by another thread"));
    if (state_.closed.load(std::memory_order_relaxed)) {
      return Status(FINERMOE_ERROR_CLOSED, format_text("the ", what_, " was closed"));
    }
    return {};
  }

 private:
  UseState& state_;
  const char* what_;
  bool held_;
};

}  // namespace finermoe
