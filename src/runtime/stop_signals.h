// What stops a call from another thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "base/progress.h"
#include "base/status.h"

namespace finermoe {

// Checked between layers and chunks: the caller's cancel flag, and whether a participating object was closed. Without
// allocation, so that the number of objects has a limit; beyond it every check fails.
class StopSignals {
 public:
  explicit StopSignals(const CancelFlag* cancel) : cancel_(cancel) {}
  void watch(const std::atomic<bool>& closed, const char* what) {
    if (n_ < watched_.size()) watched_[n_] = {&closed, what};
    n_++;
  }
  Status check() const {
    if (n_ > watched_.size()) {
      return Status(FINERMOE_ERROR_INTERNAL,
                    format_text("a call watches ", n_, " objects, ", watched_.size(), " at most"));
    }
    for (size_t i = 0; i < n_; i++) {
      if (watched_[i].closed->load(std::memory_order_relaxed)) {
        return Status(FINERMOE_ERROR_CLOSED, format_text("the ", watched_[i].what, " was closed"));
      }
    }
    if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) {
      return Status(FINERMOE_ERROR_CANCELLED, "the call was cancelled");
    }
    return {};
  }

 private:
  struct Watched {
    const std::atomic<bool>* closed;
    const char* what;
  };
  const CancelFlag* cancel_;
  std::array<Watched, 4> watched_{};  // model, session, generation or batch, draft model
  size_t n_ = 0;
};

}  // namespace finermoe
