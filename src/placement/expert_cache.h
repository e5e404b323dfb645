// Routed experts in the memory of a device that has no room for all of them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "format/checkpoint.h"
#include "placement/expert_pages.h"
#include "placement/placement.h"

namespace finermoe {

// Slots of one expert each, in one block of the device's memory, shared by all layers. A chosen expert that is not
// there is copied into the slot of the least recently used one, beside what the device computes. Thread-safe: while one
// pass copies, others take what is there.
class ExpertCache {
 public:
  // The experts that the slots of a pass have: they stay there until they are released. Used by one thread at a time.
  class InUse {
   public:
    InUse() = default;
    explicit InUse(ExpertCache& cache) : cache_(&cache) { slots_.reserve(cache.slots_.size()); }
    InUse(InUse&& other) noexcept : cache_(other.cache_), slots_(std::move(other.slots_)) { other.cache_ = nullptr; }
    InUse& operator=(InUse&&) = delete;
    ~InUse() { release(); }
    // When no operation of the pass uses them any more.
    void release() noexcept;

   private:
    friend class ExpertCache;
    ExpertCache* cache_ = nullptr;
    std::vector<uint32_t> slots_;
  };

  struct Counts {
    uint64_t hits = 0, misses = 0;  // of the experts that passes fetched: there already, or copied by the pass
  };

  // For the experts that the placement says are fetched. `weights` are those of all layers, with shapes and types:
  // their addresses are set whenever an expert is fetched. INVALID_ARGUMENT if `bytes` hold fewer experts than one
  // token chooses. `pages` may be null.
  static Result<std::unique_ptr<ExpertCache>> make(std::shared_ptr<const Checkpoint> checkpoint,
                                                   const Placement& placement, uint64_t bytes,
                                                   std::span<FfnWeights> weights, std::shared_ptr<ExpertPages> pages,
                                                   std::shared_ptr<MemoryAccount> account);

  // Makes the first of these experts, as many as there is room for, ready for operations that follow
  // Step::wait_for(copies()); returns how many, at least 1. If other passes use all slots, it waits for one of them to
  // release some: so a pass fetches only when it has released what it fetched before.
  //   experts [≥ 1] ascending indices among those of a layer, `first_expert` that of the layer's first
  Result<size_t> fetch(size_t first_expert, std::span<const uint32_t> experts, InUse& in_use);
  const CopyQueue& copies() const { return *copies_; }

  size_t n_slots() const { return slots_.size(); }
  uint64_t bytes() const { return slots_.size() * slot_bytes_; }  // of the device
  Counts counts() const;

 private:
  static constexpr uint32_t none = UINT32_MAX;
  struct Expert {
    const Tensor *gate = nullptr, *up = nullptr, *down = nullptr;
    uint32_t slot = none;
    bool is_coming = false;  // into the slot: a pass is copying it
  };
  struct Slot {
    uint32_t expert = none;
    uint32_t n_passes = 0;                // that use it
    std::list<uint32_t>::iterator place;  // in recent_
  };
  ExpertCache(std::shared_ptr<const Checkpoint> checkpoint, std::span<FfnWeights> weights,
              std::shared_ptr<ExpertPages> pages)
      : checkpoint_(std::move(checkpoint)), weights_(weights), pages_(std::move(pages)), experts_(weights.size()) {}

  // Bytes of a slot for the largest expert; also finds the tensors of all.
  uint64_t find_tensors(const Placement& placement);
  // The least recently used slot that no pass uses, or `none`.
  uint32_t free_slot() const;
  // A slot each for the first of these experts; those in `missing` are the pass's to copy.
  void take_slots(std::span<const uint32_t> experts, InUse& in_use, std::vector<uint32_t>& missing);
  void move_in(uint32_t expert, uint32_t slot);
  void forget(uint32_t expert) noexcept;
  Status copy(std::span<const uint32_t> experts);
  Status copy(uint32_t expert);
  void end_copy(uint32_t expert, bool is_done) noexcept;
  // Waits until none of these experts is being copied any more. False if one is not in the slot that was taken for it.
  bool wait_until_copied(std::span<const uint32_t> experts, std::span<const uint32_t> slots);
  void release(std::span<const uint32_t> slots) noexcept;

  const std::shared_ptr<const Checkpoint> checkpoint_;
  const std::span<FfnWeights> weights_;
  const std::shared_ptr<ExpertPages> pages_;
  std::vector<Expert> experts_;  // of all layers
  uint64_t slot_bytes_ = 0;
  std::unique_ptr<DeviceMemory> memory_;
  std::unique_ptr<CopyQueue> copies_;  // after what it copies to: its end is waited for first

  std::mutex reading_;  // held by the pass that reads from disk

  mutable std::mutex mutex_;         // of what follows, and of experts_
  std::condition_variable changed_;  // slots were released, or a copy ended
  std::vector<Slot> slots_;
  std::list<uint32_t> recent_;  // all slots, the most recently used first
  Counts counts_;
};

}  // namespace finermoe
