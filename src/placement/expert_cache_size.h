// How large an expert cache is, for the plan as for the cache itself.
#pragma once

#include <cstdint>

#include "backend/device.h"
#include "base/status.h"

namespace finermoe {

struct ExpertCacheSize {
  uint64_t n_slots = 0;     // whole ones, of an expert each; no more than there are experts to fetch
  uint64_t slot_bytes = 0;  // of the device
  uint64_t bytes() const { return n_slots * slot_bytes; }

  // Within `bytes`. INVALID_ARGUMENT if they do not hold the `n_together` experts that a token chooses in a layer.
  static Result<ExpertCacheSize> within(uint64_t bytes, uint64_t slot_bytes, uint64_t n_together, uint64_t n_fetched);
};

// INVALID_ARGUMENT for a device that uses weights where they are: there is nothing to fetch.
Status check_expert_cache_on(const Device& device, uint64_t bytes);

}  // namespace finermoe
