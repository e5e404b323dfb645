// Byte-pair encoding of one word.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace finermoe {

class Bpe {
 public:
  // The ids of the 256 bytes, and room for that many merges.
  Bpe(const std::array<int32_t, 256>& byte_ids, size_t n_merges);
  // Merges are added in the order of their ranks, lowest (applied first) first. False: the pair was already added.
  bool add_merge(int32_t left, int32_t right, int32_t merged);

  // Per-thread scratch for encoding; reused from word to word.
  struct Scratch {
    struct Node {  // one token of the word; a list in the word's order
      int32_t id;
      int32_t previous, next;  // indices; -1 at the ends, and `id` -1 for a node that was merged into another
    };
    struct Candidate {
      uint32_t rank;
      int32_t node;         // the left one
      int32_t left, right;  // the ids when it was found; the candidate is stale if they have changed
      int32_t merged;
    };
    std::vector<Node> nodes;
    std::vector<Candidate> heap;
    std::vector<int32_t> ids;  // the result
  };
  // Fills scratch.ids. Time: O(n log n) in the word's bytes.
  void encode(std::string_view word, Scratch& scratch) const;

 private:
  struct Merge {
    uint64_t pair = kNoPair;
    uint32_t rank = kNoRank;
    int32_t merged = -1;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static constexpr uint32_t kNoRank = ~uint32_t{0};

  const Merge& find(int32_t left, int32_t right) const;  // rank kNoRank: they do not merge
  void encode_short(std::string_view word, std::vector<int32_t>& ids) const;
  void encode_long(std::string_view word, Scratch& scratch) const;

  std::array<int32_t, 256> byte_ids_;
  std::vector<Merge> merges_;  // open addressing; a power of two, at most half full, so that a miss is short
  int shift_;
  uint32_t n_merges_ = 0;
};

}  // namespace finermoe
