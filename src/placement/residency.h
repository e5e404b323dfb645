// Which weights stay in memory: which are locked there, and how the routed experts of a model that may be larger than
// memory are paged in and out.
#pragma once

#include <memory>

#include "base/progress.h"
#include "base/thread_pool.h"
#include "format/checkpoint.h"
#include "format/tensor_table.h"
#include "placement/expert_pages.h"
#include "placement/placement.h"

namespace finermoe {

enum class Lock : int32_t {
  none = FINERMOE_LOCK_NONE,
  every_token = FINERMOE_LOCK_EVERY_TOKEN,
  all = FINERMOE_LOCK_ALL
};
enum class Prefetch : int32_t {
  automatic = FINERMOE_PREFETCH_AUTO,
  off = FINERMOE_PREFETCH_OFF,
  on = FINERMOE_PREFETCH_ON
};

struct ResidencyOptions {
  Lock lock = Lock::none;
  Prefetch prefetch = Prefetch::automatic;
  uint64_t expert_budget = 0;  // bytes; 0: none
};

// Whether every token reads a tensor: all but routed experts and an embedding that is not also the head.
bool is_read_by_every_token(const Config& config, TensorKind kind);

// Asks the system for huge pages for the mapped weights, if they fit into memory: files that are not in memory yet are
// read so, and the weights are read faster as long as they stay there. Experts that are managed, because not all of
// them fit, keep small pages: a huge one would have more than those that are chosen.
Status prefer_huge_pages(const Checkpoint& checkpoint, const Placement& placement, bool experts_are_managed);

// Locks the weights that `lock` selects and that a device uses in the mapping (phase "lock", in bytes). OUT_OF_MEMORY
// if the system refuses.
Status lock_weights(const Checkpoint& checkpoint, const Placement& placement, Lock lock, const Progress& progress);

// Null if the experts need no management: a dense model, files that are not mapped, devices with copies of all experts,
// or, unless requested, weights that fit into memory. INVALID_ARGUMENT for a budget that cannot be met.
Result<std::shared_ptr<ExpertPages>> manage_experts(std::shared_ptr<const Checkpoint> checkpoint,
                                                    const Placement& placement, const ResidencyOptions& options,
                                                    std::shared_ptr<ThreadPool> pool);

}  // namespace finermoe
