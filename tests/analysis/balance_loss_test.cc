#include "analysis/balance_loss.h"

#include <gtest/gtest.h>

#include <vector>

namespace finermoe {
namespace {

TEST(BalanceLoss, EvenUseIsOne) {
  // 4 of 16 experts for each of 40 tokens, each expert as often and as likely as any other.
  const std::vector<uint64_t> usage(16, 10);
  const std::vector<double> probability(16, 40.0 / 16);
  EXPECT_DOUBLE_EQ(balance_loss(usage, probability, 4, 40), 1);
}

TEST(BalanceLoss, AlwaysTheSameExpertsIsTheirShareOfAll) {
  // The same 2 of 8 experts for all 5 tokens, which are certain of them: N / k.
  const std::vector<uint64_t> usage = {5, 5, 0, 0, 0, 0, 0, 0};
  const std::vector<double> probability = {2.5, 2.5, 0, 0, 0, 0, 0, 0};
  EXPECT_DOUBLE_EQ(balance_loss(usage, probability, 2, 5), 4);
  // Undecided, they are chosen all the same: the probabilities are even, and so is the loss.
  EXPECT_DOUBLE_EQ(balance_loss(usage, std::vector<double>(8, 5.0 / 8), 2, 5), 1);
}

TEST(BalanceLoss, ByHand) {
  // Two tokens, one of two experts each, both the first: f = (2, 0), P = (0.75, 0.25).
  const std::vector<uint64_t> usage = {2, 0};
  const std::vector<double> probability = {0.9 + 0.6, 0.1 + 0.4};
  EXPECT_DOUBLE_EQ(balance_loss(usage, probability, 1, 2), 1.5);
}

}  // namespace
}  // namespace finermoe
