#include "base/control_group.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "base/descriptor.h"
#include "base/status.h"

namespace finermoe {
namespace {

// Is `name` one of the names in "cpu,cpuacct"?
bool names(std::string_view list, std::string_view name) {
  for (size_t begin = 0; begin <= list.size();) {
    const size_t end = std::min(list.find(',', begin), list.size());
    if (list.substr(begin, end - begin) == name) return true;
    begin = end + 1;
  }
  return false;
}

}  // namespace

std::vector<std::string> control_groups(std::string_view lines, std::string_view controller) {
  std::vector<std::string> groups;
  auto add = [&](const std::string& mount, std::string_view group) {
    // In a container the path may be that of the host, of which only the root is mounted: the loop ends there.
    for (std::string path(group);; path.resize(path.rfind('/'))) {
      while (path.ends_with('/')) path.pop_back();
      groups.push_back(mount + path);
      if (path.empty()) break;
    }
  };
  const std::string mount = "/sys/fs/cgroup";
  for (std::string_view rest = lines; !rest.empty();) {
    const std::string_view text = rest.substr(0, rest.find('\n'));  // "4:memory:/group"; unified: "0::/group"
    rest.remove_prefix(std::min(text.size() + 1, rest.size()));
    const size_t first = text.find(':'), second = text.find(':', first + 1);
    if (second == text.npos || !text.substr(second + 1).starts_with('/')) continue;
    const std::string_view controllers = text.substr(first + 1, second - first - 1);
    if (controllers.empty()) add(mount, text.substr(second + 1));
    if (names(controllers, controller)) add(format_text(mount, "/", controller), text.substr(second + 1));
  }
  return groups;
}

std::vector<std::string> control_groups(std::string_view controller) {
  return control_groups(read_system_file("/proc/self/cgroup"), controller);
}

bool read_numbers(const std::string& path, long long (&numbers)[2]) {
  const std::string text = read_system_file(path.c_str());
  numbers[0] = numbers[1] = -1;
  return sscanf(text.c_str(), "%lld %lld", &numbers[0], &numbers[1]) >= 0;
}

double processor_quota(const std::vector<std::string>& groups) {
  double quota = INFINITY;
  long long numbers[2], period[2];
  for (const std::string& group : groups) {
    if (read_numbers(group + "/cpu.max", numbers) && numbers[0] > 0 && numbers[1] > 0) {
      quota = std::min(quota, double(numbers[0]) / double(numbers[1]));
    }
    // Version 1: two files, -1 for none.
    if (read_numbers(group + "/cpu.cfs_quota_us", numbers) && numbers[0] > 0 &&
        read_numbers(group + "/cpu.cfs_period_us", period) && period[0] > 0) {
      quota = std::min(quota, double(numbers[0]) / double(period[0]));
    }
  }
  return quota;
}

uint64_t memory_quota(const std::vector<std::string>& groups) {
  constexpr long long most = 1LL << 62;  // version 1 reports "no limit" as the largest multiple of the page size
  uint64_t bytes = UINT64_MAX;
  for (const std::string& group : groups) {
    for (const char* name : {"/memory.max", "/memory.limit_in_bytes"}) {
      long long limit[2];
      if (read_numbers(group + name, limit) && limit[0] >= 0 && limit[0] < most) {
        bytes = std::min(bytes, static_cast<uint64_t>(limit[0]));
      }
    }
  }
  return bytes;
}

}  // namespace finermoe
