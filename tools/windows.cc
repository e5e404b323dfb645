#include "windows.h"

#include <algorithm>

#include "model_facts.h"

namespace tool {

namespace {
constexpr size_t kLargestDefaultWindow = 2048;
}

Windows cut_windows(std::vector<std::vector<int32_t>> rows, size_t window) {
  if (rows.size() != 1) return rows;
  const std::vector<int32_t>& ids = rows[0];
  Windows windows;
  for (size_t begin = 0; begin < ids.size(); begin += window) {
    const size_t end = std::min(begin + window, ids.size());
    windows.emplace_back(ids.begin() + static_cast<ptrdiff_t>(begin), ids.begin() + static_cast<ptrdiff_t>(end));
  }
  return windows;
}

size_t count_tokens(const Windows& windows) {
  size_t n = 0;
  for (const auto& window : windows) n += window.size();
  return n;
}

size_t longest_window(const Windows& windows) {
  size_t longest = 1;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  return longest;
}

size_t default_window(const Model& model, const ComputeFlags& flags) {
  return flags.context != 0 ? flags.context : clamp_context(model, kLargestDefaultWindow);
}

}  // namespace tool
