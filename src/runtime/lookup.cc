#include "runtime/lookup.h"

#include <algorithm>
#include <bit>

namespace finermoe {
namespace {

constexpr size_t longest_match = 8, most_candidates = 32;

}  // namespace

Result<Lookup> Lookup::make(std::shared_ptr<MemoryAccount> account, size_t capacity, size_t n_draft) {
  Lookup lookup;
  lookup.capacity_ = std::min<size_t>(capacity, UINT32_MAX - 1);
  lookup.n_draft_ = n_draft;
  lookup.n_slots_ = std::bit_ceil(lookup.capacity_);
  const uint64_t bytes = (lookup.n_slots_ + lookup.capacity_) * sizeof(uint32_t);
  FM_ASSIGN(lookup.memory_, Buffer::allocate(std::move(account), bytes, "the index of a text"));
  lookup.latest_ = lookup.memory_.data<uint32_t>();
  lookup.earlier_ = lookup.latest_ + lookup.n_slots_;
  lookup.guess_.reserve(n_draft);
  return lookup;
}

size_t Lookup::slot_of(int32_t before, int32_t last) const {
  const uint64_t pair = uint64_t{static_cast<uint32_t>(before)} << 32 | static_cast<uint32_t>(last);
  return (pair * 0x9E3779B97F4A7C15u >> 32) & (n_slots_ - 1);  // Fibonacci hashing
}

// All pairs but the last, which looks for its like.
void Lookup::index(std::span<const int32_t> text) {
  for (size_t i = std::max<size_t>(n_indexed_, 1); i + 1 < text.size(); i++) {
    uint32_t& latest = latest_[slot_of(text[i - 1], text[i])];
    earlier_[i] = latest;
    latest = static_cast<uint32_t>(i + 1);
  }
  n_indexed_ = std::max(n_indexed_, text.size() - 1);
}

// What follows the longest match of the text's end, of equally long ones the latest. Where that reaches the end of the
// text, it goes on with the guess itself, as a text that repeats itself does.
void Lookup::guess(std::span<const int32_t> text) {
  guess_.clear();
  const size_t last = text.size() - 1;
  size_t best = 0, best_length = 1;
  uint32_t next = latest_[slot_of(text[last - 1], text[last])];
  for (size_t n = 0; next != 0 && n < most_candidates && best_length < longest_match; n++) {
    const size_t end = next - 1, most = std::min(longest_match, end + 1);
    size_t length = 0;
    while (length < most && text[end - length] == text[last - length]) length++;
    if (length > best_length) best = end, best_length = length;
    next = earlier_[end];
  }
  if (best_length < 2) return;
  for (size_t i = 0; i < n_draft_; i++) {
    const size_t at = best + 1 + i;
    guess_.add(at <= last ? text[at] : guess_.tokens()[at - last - 1]);
  }
}

// A row of a pass costs a part of what a pass costs: worth it for a token that is likely enough to be reached.
size_t Lookup::n_likely() const {
  constexpr double least = 0.4;
  size_t n = 0;
  for (double reached = hit_rate(); reached >= least && n < n_draft_; reached *= hit_rate()) n++;
  return n;
}

std::span<const int32_t> Lookup::draft(std::span<const int32_t> text, uint64_t revision, size_t limit) {
  if (revision != revision_) {
    std::fill_n(latest_, n_slots_, 0u);
    n_indexed_ = 0;
    revision_ = revision;
  }
  if (text.size() < 2 || text.size() > capacity_) return {};
  index(text);
  guess(text);
  return guess_.tokens().first(std::min({guess_.tokens().size(), limit, n_likely()}));
}

}  // namespace finermoe
