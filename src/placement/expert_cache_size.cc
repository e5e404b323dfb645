#include "placement/expert_cache_size.h"

#include <algorithm>

#include "base/saturating.h"

namespace finermoe {

Result<ExpertCacheSize> ExpertCacheSize::within(uint64_t bytes, uint64_t slot_bytes, uint64_t n_together,
                                                uint64_t n_fetched) {
  const uint64_t least = saturating_product(n_together, slot_bytes);
  if (bytes < least) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("an expert cache of ", bytes, " bytes is too small: the ", n_together,
                              " experts of a token take ", least),
                  format_text("at least ", least, " bytes"), format_text(bytes, " bytes"));
  }
  return ExpertCacheSize{std::min(bytes / slot_bytes, n_fetched), slot_bytes};
}

Status check_expert_cache_on(const Device& device, uint64_t bytes) {
  if (device.copies_weights()) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                format_text("an expert cache, ", bytes, " bytes, is for a device with memory of its own: ",
                            device.name(), " uses weights where they are"),
                "no expert cache", format_text(bytes, " bytes"));
}

}  // namespace finermoe
