#include "base/system_memory.h"

#include <algorithm>
#include <cstdio>
#include <string>

#include "base/control_group.h"
#include "base/descriptor.h"

namespace finermoe {

uint64_t available_memory() {
  uint64_t bytes = UINT64_MAX;
  const std::string text = read_system_file("/proc/meminfo");
  const size_t line = text.find("MemAvailable:");
  unsigned long long kib = 0;
  if (line != text.npos && sscanf(text.c_str() + line, "MemAvailable: %llu", &kib) == 1) bytes = uint64_t{kib} << 10;
  return std::min(bytes, memory_quota());
}

}  // namespace finermoe
