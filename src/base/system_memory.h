// What memory the system has for this process.
#pragma once

#include <cstdint>

namespace finermoe {

// Bytes that this process could use without the system running short: what is free or can be dropped, cut by the limits
// of its control groups. The whole address space where the system does not say.
uint64_t available_memory();
// Bytes that this process may use at most: the whole memory, cut by the same limits.
uint64_t total_memory();

}  // namespace finermoe
