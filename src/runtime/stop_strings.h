// Text on its way out, held back as long as it might become a stop string.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace finermoe {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes text in and appends to `out` what is safe to show. True: a stop string came; `out` ends before it and what
  // follows is dropped. While `may_stop` is false everything passes.
  bool push(const std::string& text, bool may_stop, std::string& out) {
    held_ += text;
    if (strings_.empty() || !may_stop) {
      release(held_.size(), out);
      return false;
    }
    size_t first = std::string::npos;
    for (const std::string& stop : strings_) first = std::min(first, held_.find(stop));
    if (first != std::string::npos) {
      release(first, out);
      held_.clear();
      return true;
    }
    release(held_.size() - longest_beginning(), out);
    return false;
  }
  // The end came otherwise: nothing is held back any more.
  void flush(std::string& out) { release(held_.size(), out); }

 private:
  // The longest end of the held text with which some stop string begins, widened to whole characters.
  size_t longest_beginning() const {
    size_t longest = 0;
    for (const std::string& stop : strings_) {
      for (size_t n = std::min(stop.size() - 1, held_.size()); n > longest; n--) {
        if (held_.compare(held_.size() - n, n, stop, 0, n) == 0) longest = n;
      }
    }
    while (longest < held_.size() && (held_[held_.size() - longest] & 0xc0) == 0x80) longest++;
    return longest;
  }
  void release(size_t n, std::string& out) {
    out.append(held_, 0, n);
    held_.erase(0, n);
  }

  std::vector<std::string> strings_;
  std::string held_;
};

}  // namespace finermoe
