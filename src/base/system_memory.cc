#include "base/system_memory.h"

#include <algorithm>
#include <cstdio>
#include <memory>

#include "base/control_group.h"

namespace finermoe {

uint64_t available_memory() {
  uint64_t bytes = UINT64_MAX;
  std::unique_ptr<FILE, int (*)(FILE*)> file(fopen("/proc/meminfo", "re"), fclose);
  char line[256];
  for (unsigned long long kib = 0; file && fgets(line, sizeof line, file.get()) != nullptr;) {
    if (sscanf(line, "MemAvailable: %llu", &kib) == 1) bytes = uint64_t{kib} << 10;
  }
  for (const std::string& group : control_groups("memory")) {
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
      long long limit[2];
      if (read_numbers(group + name, limit) && limit[0] >= 0) bytes = std::min(bytes, static_cast<uint64_t>(limit[0]));
    }
  }
  return bytes;
}

}  // namespace finermoe
