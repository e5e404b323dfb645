// The limits that control groups set for this process, in either version of their interface.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace finermoe {

// Directories of the groups that limit a process for a controller ("cpu", "memory"), its own first, then their parents,
// as far as visible: in the unified hierarchy, and in that of version 1. `lines`: the text of /proc/…/cgroup.
std::vector<std::string> control_groups(std::string_view lines, std::string_view controller);
// Those of this process.
std::vector<std::string> control_groups(std::string_view controller);

// The first two numbers in a small file; -1 in place of a word ("max") or nothing. False if there is no such file.
bool read_numbers(const std::string& path, long long (&numbers)[2]);

// Processors that the groups allow a process; infinity if unlimited.
double processor_quota(const std::vector<std::string>& groups = control_groups("cpu"));
// Bytes; UINT64_MAX if unlimited.
uint64_t memory_quota(const std::vector<std::string>& groups = control_groups("memory"));

}  // namespace finermoe
