#include "base/system_memory.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/control_group.h"
#include "base/descriptor.h"

namespace finermoe {

namespace {

// An entry of /proc/meminfo, in bytes, capped by the cgroup limit.
uint64_t read_limited(const std::string& name) {
  uint64_t bytes = UINT64_MAX;
  const std::string text = read_system_file("/proc/meminfo");
  const size_t line = text.find(name);
  unsigned long long kib = 0;
  if (line != text.npos && sscanf(text.c_str() + line + name.size(), " %llu", &kib) == 1) bytes = uint64_t{kib} << 10;
  return std::min(bytes, memory_quota());
}

}  // namespace

uint64_t available_memory() { return read_limited("MemAvailable:"); }
uint64_t total_memory() { return read_limited("MemTotal:"); }

}  // namespace finermoe
