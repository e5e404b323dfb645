// Text on its way out, held back as long as it might become a stop string. What is held back lies with the caller.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace finermoe {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Takes text in behind what is held, and appends to `out` what is safe to show. True: a stop string came; `out` ends
  // before it and what follows is dropped. While `may_stop` is false everything passes.
  bool push(std::string& held, const std::string& text, bool may_stop, std::string& out) const {
    held += text;
    if (strings_.empty() || !may_stop) {
      release(held, held.size(), out);
      return false;
    }
    size_t first = std::string::npos;
    for (const std::string& stop : strings_) first = std::min(first, held.find(stop));
    if (first != std::string::npos) {
      release(held, first, out);
      held.clear();
      return true;
    }
    release(held, held.size() - longest_beginning(held), out);
    return false;
  }

 private:
  // The longest end of the held text with which some stop string begins, widened to whole characters.
  size_t longest_beginning(const std::string& held) const {
    size_t longest = 0;
    for (const std::string& stop : strings_) {
      for (size_t n = std::min(stop.size() - 1, held.size()); n > longest; n--) {
        if (held.compare(held.size() - n, n, stop, 0, n) == 0) longest = n;
      }
    }
    while (longest < held.size() && (held[held.size() - longest] & 0xc0) == 0x80) longest++;
    return longest;
  }
  static void release(std::string& held, size_t n, std::string& out) {
    out.append(held, 0, n);
    held.erase(0, n);
  }

  std::vector<std::string> strings_;
};

}  // namespace finermoe
