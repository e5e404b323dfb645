// Bytes, before anything is loaded.
#pragma once

#include "runtime/session.h"

namespace finermoe {

// What a host intends.
struct PlanOptions {
  SessionOptions session;
  uint64_t n_sessions = 1;  // that live at once
  uint32_t n_threads = 0;   // 0: as many as this process may use
};

struct Plan {
  uint64_t embeddings = 0, attention = 0, dense = 0, shared = 0, routed = 0, router = 0;  // weights
  uint64_t kv_cache = 0;                                                                  // of all sessions
  uint64_t scratch = 0;          // of one step on all threads, and each session's row of logits
  uint64_t bytes_per_token = 0;  // weight bytes that decoding one token reads
  uint64_t every_token = 0;      // weights that every token reads
  uint64_t weights() const { return embeddings + attention + dense + shared + routed + router; }
};

Result<Plan> make_plan(const Config& config, const PlanOptions& options);

}  // namespace finermoe
