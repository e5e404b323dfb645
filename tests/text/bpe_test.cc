#include "text/bpe.h"

#include <gtest/gtest.h>

#include <map>
#include <random>
#include <string>

namespace finermoe {
namespace {

// The ids of bytes are their values.
std::array<int32_t, 256> plain_bytes() {
  std::array<int32_t, 256> ids;
  for (size_t i = 0; i < ids.size(); i++) ids[i] = static_cast<int32_t>(i);
  return ids;
}

struct Merge {
  int32_t left, right, merged;
};

Bpe make(const std::vector<Merge>& merges) {
  Bpe bpe(plain_bytes(), merges.size());
  for (const Merge& merge : merges) EXPECT_TRUE(bpe.add_merge(merge.left, merge.right, merge.merged));
  return bpe;
}

std::vector<int32_t> encode(const Bpe& bpe, std::string_view word) {
  Bpe::Scratch scratch;
  bpe.encode(word, scratch);
  return scratch.ids;
}

// The definition: of all pairs that merge, the one of lowest rank is merged, the leftmost of equals first.
std::vector<int32_t> by_definition(const std::vector<Merge>& merges, std::string_view word) {
  std::map<std::pair<int32_t, int32_t>, size_t> ranks;
  for (size_t rank = 0; rank < merges.size(); rank++) ranks[{merges[rank].left, merges[rank].right}] = rank;
  std::vector<int32_t> ids;
  for (char c : word) ids.push_back(static_cast<unsigned char>(c));
  for (;;) {
    size_t best = merges.size(), place = 0;
    for (size_t i = 0; i + 1 < ids.size(); i++) {
      const auto found = ranks.find({ids[i], ids[i + 1]});
      if (found != ranks.end() && found->second < best) {
        best = found->second;
        place = i;
      }
    }
    if (best == merges.size()) return ids;
    ids[place] = merges[best].merged;
    ids.erase(ids.begin() + static_cast<std::ptrdiff_t>(place) + 1);
  }
}

TEST(Bpe, MergesByRank) {
  // "bc" comes before "ab": a bc, and then nothing merges.
  const Bpe bpe = make({{'b', 'c', 300}, {'a', 'b', 301}, {301, 'c', 302}});
  EXPECT_EQ(encode(bpe, "abc"), std::vector<int32_t>({'a', 300}));
  EXPECT_EQ(encode(bpe, "ab"), std::vector<int32_t>({301}));
  EXPECT_EQ(encode(bpe,
                   "\xff"
                   "a"),
            std::vector<int32_t>({255, 'a'}));
  EXPECT_EQ(encode(bpe, "x"), std::vector<int32_t>({'x'}));
}

TEST(Bpe, TheLeftmostOfEqualsFirst) {
  const Bpe bpe = make({{'a', 'a', 300}});
  EXPECT_EQ(encode(bpe, "aaa"), std::vector<int32_t>({300, 'a'}));
  EXPECT_EQ(encode(bpe, std::string(101, 'a')).size(), 51u);
  EXPECT_EQ(encode(bpe, std::string(101, 'a')).back(), 'a');
}

TEST(Bpe, APairMergesInOneWay) {
  Bpe bpe(plain_bytes(), 2);
  EXPECT_TRUE(bpe.add_merge('a', 'b', 300));
  EXPECT_FALSE(bpe.add_merge('a', 'b', 301));
  EXPECT_TRUE(bpe.add_merge('b', 'a', 301));
  EXPECT_EQ(encode(bpe, "aba"), std::vector<int32_t>({300, 'a'}));
}

TEST(Bpe, WithoutMergesEveryByteIsAToken) {
  const std::string word(200, 'z');
  EXPECT_EQ(encode(make({}), word), std::vector<int32_t>(200, 'z'));
}

// Short and long words take different ways.
TEST(Bpe, WordsOfAnyLength) {
  std::mt19937 random(3);
  for (int round = 0; round < 50; round++) {
    std::vector<Merge> merges;
    std::vector<int32_t> ids = {'a', 'b', 'c'};
    std::map<std::pair<int32_t, int32_t>, bool> seen;
    for (int32_t next = 256; next < 276; next++) {
      const int32_t left = ids[random() % ids.size()], right = ids[random() % ids.size()];
      if (!seen.emplace(std::pair(left, right), true).second) continue;
      merges.push_back({left, right, next});
      ids.push_back(next);
    }
    const Bpe bpe = make(merges);
    Bpe::Scratch scratch;  // one for all words, as a thread has it
    for (size_t length : {1, 2, 3, 10, 47, 48, 49, 50, 200}) {
      std::string word(length, ' ');
      for (char& c : word) c = "abc"[random() % 3];
      bpe.encode(word, scratch);
      EXPECT_EQ(scratch.ids, by_definition(merges, word)) << word;
    }
  }
}

}  // namespace
}  // namespace finermoe
