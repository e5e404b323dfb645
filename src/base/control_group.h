// The limits that control groups set for this process, in either version of their interface.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace finermoe {

// Directories of the groups that hold a process for a controller ("cpu", "memory"), its own first, then those above it,
// as far as they can be seen: of the unified hierarchy, and of version 1's. `lines` are those of its /proc/…/cgroup.
std::vector<std::string> control_groups(std::string_view lines, std::string_view controller);
// Those of this process.
std::vector<std::string> control_groups(std::string_view controller);

// The first two numbers of a small file, -1 where a word ("max") or nothing stands. False if there is no such file.
bool read_numbers(const std::string& path, long long (&numbers)[2]);

// Processors that the groups leave a process; infinity if all.
double processor_quota(const std::vector<std::string>& groups = control_groups("cpu"));
// Bytes; UINT64_MAX if all.
uint64_t memory_quota(const std::vector<std::string>& groups = control_groups("memory"));

}  // namespace finermoe
