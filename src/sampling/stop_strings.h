// Holds back output text as long as it might become part of a stop string. The caller stores the held-back text.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

namespace finermoe {

class StopStrings {
 public:
  explicit StopStrings(std::vector<std::string> strings) : strings_(std::move(strings)) {}

  // Appends text to what is held, and moves to `out` what is safe to show. True: a stop string was found; `out` ends
  // before it and the rest is dropped. While `may_stop` is false everything passes.
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
  // The longest suffix of the held text that is a prefix of some stop string, extended to whole characters.
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
