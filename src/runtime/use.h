// Who uses an object, and what can stop the use from another thread.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>

#include "base/progress.h"
#include "base/status.h"

namespace finermoe {

// State that sessions, generations and batches share: one thread at a time, closed from any.
struct UseState {
  std::atomic<bool> in_use{false};
  std::atomic<bool> closed{false};
};

// Holds an object for the length of a call. check() says whether it could be had.
class Use {
 public:
  Use(UseState& state, const char* what) : state_(state), what_(what) {
    held_ = !state_.in_use.exchange(true, std::memory_order_acquire);
  }
  ~Use() {
    if (held_) state_.in_use.store(false, std::memory_order_release);
  }
  Use(const Use&) = delete;

  bool is_busy() const { return !held_; }
  Status check() const {
    if (!held_) return Status(FINERMOE_ERROR_BUSY, cat("the ", what_, " is in use by another thread"));
    if (state_.closed.load(std::memory_order_relaxed)) {
      return Status(FINERMOE_ERROR_CLOSED, cat("the ", what_, " was closed"));
    }
    return {};
  }

 private:
  UseState& state_;
  const char* what_;
  bool held_;
};

// Looked at between layers and chunks: the caller's cancel flag, and the closing of the objects that take part.
class StopSignals {
 public:
  explicit StopSignals(const CancelFlag* cancel) : cancel_(cancel) {}
  void watch(const std::atomic<bool>& closed, const char* what) {
    if (n_ < watched_.size()) watched_[n_++] = {&closed, what};
  }
  Status check() const {
    for (size_t i = 0; i < n_; i++) {
      if (watched_[i].closed->load(std::memory_order_relaxed)) {
        return Status(FINERMOE_ERROR_CLOSED, cat("the ", watched_[i].what, " was closed"));
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
  std::array<Watched, 4> watched_{};  // model, session, generation, batch
  size_t n_ = 0;
};

}  // namespace finermoe
