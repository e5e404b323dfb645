// The limits that control groups set for this process, in either version of their interface.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace finermoe {

// Directories of the groups that hold this process for a controller ("cpu", "memory"), its own first, then those above
// it, as far as they can be seen: of the unified hierarchy, and of version 1's.
std::vector<std::string> control_groups(const char* controller);

// The first two numbers of a small file, -1 where a word ("max") or nothing stands. False if there is no such file.
bool read_numbers(const std::string& path, long long (&numbers)[2]);

double processor_quota();  // processors that the groups leave this process; infinity if all
uint64_t memory_quota();   // bytes; UINT64_MAX if all

}  // namespace finermoe
