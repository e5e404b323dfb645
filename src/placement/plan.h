// The memory plan, made before anything is loaded.
#pragma once

#include "backend/device.h"
#include "placement/device_share.h"
#include "placement/expert_cache_size.h"

namespace finermoe {

// The workload to plan for.
struct PlanOptions {
  uint64_t context_length = 0;  // tokens of every session
  DType kv_dtype = DType::f32;
  size_t chunk = 0;         // rows of the largest pass
  uint64_t n_sessions = 1;  // that exist at the same time
  uint32_t n_threads = 1;
  uint64_t device_memory = 0;  // bytes of a device that copies weights; 0: all it has
  uint64_t expert_cache = 0;   // bytes of these for experts that are fetched; 0: none is
};

struct Plan {
  uint64_t embeddings = 0, attention = 0, dense = 0, shared = 0, routed = 0, router = 0;  // weights
  uint64_t kv_cache = 0;                                                                  // of all sessions
  uint64_t scratch = 0;          // of one step on all threads, plus each session's row of logits
  uint64_t bytes_per_token = 0;  // weight bytes that decoding one token reads
  uint64_t every_token = 0;      // weights that every token reads
  // Of a device that copies weights
  DeviceShare share;
  uint64_t device_memory = 0, device_total = 0;  // that the plan may take, and takes
  uint64_t device_bytes_per_token = 0;           // of bytes_per_token, what it reads: fetched experts too
  ExpertCacheSize expert_cache;                  // of no slots if no expert is fetched
  uint64_t fetched_bytes_per_token = 0;          // expected copies into the cache for a token that is decoded
  uint64_t weights() const { return embeddings + attention + dense + shared + routed + router; }
};

// For a model on `device`, with what has no room there on the CPU. INVALID_ARGUMENT if a number of
// bytes overflows 64 bits, or for an expert cache that cannot be.
Result<Plan> make_plan(const Config& config, const Device& device, const Device& cpu, const PlanOptions& options);

}  // namespace finermoe
