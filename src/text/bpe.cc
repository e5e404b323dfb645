#include "text/bpe.h"

#include <algorithm>
#include <bit>

namespace finermoe {
namespace {

constexpr size_t kShortWord = 48;  // up to this length, scanning all pairs is faster than a heap

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

}  // namespace

Bpe::Bpe(const std::array<int32_t, 256>& byte_ids, size_t n_merges)
    : byte_ids_(byte_ids), merges_(std::bit_ceil(n_merges * 2 + 2)), shift_(65 - std::bit_width(merges_.size())) {}

const Bpe::Merge& Bpe::find(int32_t left, int32_t right) const {
  uint64_t pair = pair_of(left, right);
  size_t slot = pair * 0x9E3779B97F4A7C15u >> shift_;
  while (merges_[slot].pair != pair && merges_[slot].pair != kNoPair) slot = (slot + 1) & (merges_.size() - 1);
  return merges_[slot];
}

bool Bpe::add_merge(int32_t left, int32_t right, int32_t merged) {
  auto& slot = const_cast<Merge&>(find(left, right));
  if (slot.pair != kNoPair) return false;
  slot = {pair_of(left, right), n_merges_++, merged};
  return true;
}

void Bpe::encode(std::string_view word, Scratch& scratch) const {
  if (word.size() <= kShortWord) {
    encode_short(word, scratch.ids);
  } else {
    encode_long(word, scratch);
  }
}

void Bpe::encode_short(std::string_view word, std::vector<int32_t>& ids) const {
  int32_t tokens[kShortWord];
  const Merge* merges[kShortWord];  // of each token with the next one
  size_t n = word.size();
  for (size_t i = 0; i < n; ++i) tokens[i] = byte_ids_[static_cast<unsigned char>(word[i])];
  for (size_t i = 0; i + 1 < n; ++i) merges[i] = &find(tokens[i], tokens[i + 1]);
  while (n > 1) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < n; ++i) {
      if (merges[i]->rank < merges[best]->rank) best = i;
    }
    if (merges[best]->rank == kNoRank) break;
    tokens[best] = merges[best]->merged;
    --n;
    std::copy(tokens + best + 2, tokens + n + 1, tokens + best + 1);
    if (best + 1 < n) {
      std::copy(merges + best + 2, merges + n, merges + best + 1);
      merges[best] = &find(tokens[best], tokens[best + 1]);
    }
    if (best > 0) merges[best - 1] = &find(tokens[best - 1], tokens[best]);
  }
  ids.assign(tokens, tokens + n);
}

void Bpe::encode_long(std::string_view word, Scratch& scratch) const {
  auto& [nodes, heap, ids] = scratch;
  auto later = [](const Scratch::Candidate& a, const Scratch::Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.node > b.node;
  };
  auto candidate = [&, &nodes = nodes, &heap = heap](int32_t left) {
    int32_t right = nodes[left].next;
    if (right < 0) return false;
    const Merge& merge = find(nodes[left].id, nodes[right].id);
    if (merge.rank == kNoRank) return false;
    heap.push_back({merge.rank, left, nodes[left].id, nodes[right].id, merge.merged});
    return true;
  };

  const auto n = static_cast<int32_t>(word.size());
  nodes.resize(word.size());
  heap.clear();
  for (int32_t i = 0; i < n; ++i) nodes[i] = {byte_ids_[static_cast<unsigned char>(word[i])], i - 1, i + 1};
  nodes[n - 1].next = -1;
  for (int32_t i = 0; i < n; ++i) candidate(i);
  std::make_heap(heap.begin(), heap.end(), later);

  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    Scratch::Candidate best = heap.back();
    heap.pop_back();
    Scratch::Node& left = nodes[best.node];
    if (left.id != best.left || left.next < 0 || nodes[left.next].id != best.right) continue;
    Scratch::Node& right = nodes[left.next];
    left.id = best.merged;
    left.next = right.next;
    right.id = -1;
    if (left.next >= 0) nodes[left.next].previous = best.node;
    if (candidate(best.node)) std::push_heap(heap.begin(), heap.end(), later);
    if (left.previous >= 0 && candidate(left.previous)) std::push_heap(heap.begin(), heap.end(), later);
  }
  ids.clear();
  for (int32_t i = 0; i >= 0; i = nodes[i].next) ids.push_back(nodes[i].id);
}

}  // namespace finermoe
