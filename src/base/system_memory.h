// The memory that the system has for this process.
#pragma once

#include <cstdint>

namespace finermoe {

// Bytes that this process could use without the system running short: what is free or can be evicted, capped by its
// cgroup limits. The whole address space if the system does not say.
uint64_t available_memory();
// The most bytes that this process may use: all memory, capped by the same limits.
uint64_t total_memory();

}  // namespace finermoe
