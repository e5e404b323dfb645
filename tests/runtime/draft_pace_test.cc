// How many drafts pay, compared with trying every number.
#include "runtime/draft_pace.h"

#include <gtest/gtest.h>

#include "runtime/guess.h"

namespace finermoe {
namespace {

// Costs in passes of the model itself.
DraftPace pace_with(double of_row, double of_draft) {
  DraftPace pace;
  pace.passed(0, 1);
  pace.passed(4, 1 + 4 * of_row);
  pace.drafted(of_draft);
  return pace;
}

TEST(DraftPace, TakesTheNumberThatGivesTheMostTokensForItsTime) {
  constexpr size_t limit = 16;
  for (const double right : {0.0, 0.3, 0.6, 0.9, 0.97, 1.0}) {
    for (const double of_row : {0.0, 0.05, 0.3}) {
      for (const double of_draft : {0.01, 0.2, 0.5, 1.0}) {
        size_t best = 0;
        double best_rate = 1;
        for (size_t n = 1; n <= limit; n++) {
          double expected = 0, probability = 1;  // that at least so many drafts are right
          for (size_t i = 0; i <= n; i++, probability *= right) expected += probability;
          const double rate = expected / (1 + static_cast<double>(n) * (of_row + of_draft));
          if (rate > best_rate * (1 + 1e-9)) best = n, best_rate = rate;
        }
        const DraftPace pace = pace_with(of_row, of_draft);
        ASSERT_TRUE(pace.is_known());
        EXPECT_EQ(pace.best(right, limit), best) << right << " " << of_row << " " << of_draft;
      }
    }
  }
}

TEST(DraftPace, DraftsNothingWhereADraftCostsAsMuchAsItSaves) {
  EXPECT_EQ(pace_with(0.1, 0.9).best(1, 64), 0u);
  EXPECT_EQ(pace_with(0.1, 0.8).best(1, 64), 64u);
}

TEST(DraftPace, APauseOfTheProcessCountsForLittle) {
  DraftPace pace = pace_with(0.05, 0.1);
  const size_t before = pace.best(0.9, 16);
  for (size_t i = 0; i < 4; i++) {
    pace.drafted(0.1);
    pace.passed(0, 1);
    pace.passed(4, 1.2);
  }
  pace.drafted(60);
  pace.passed(0, 60);
  pace.passed(4, 60);
  EXPECT_EQ(pace.best(0.9, 16), before);
}

TEST(Guess, CountsTokensUpToTheFirstWrongOne) {
  Guess guess(0.5, 0.5);
  for (const int32_t token : {1, 2, 3}) guess.add(token);
  guess.chose(1);
  EXPECT_DOUBLE_EQ(guess.rate(), 0.75);
  guess.chose(7);
  EXPECT_DOUBLE_EQ(guess.rate(), 0.375);
  guess.chose(3);  // nothing was guessed behind 7
  EXPECT_DOUBLE_EQ(guess.rate(), 0.375);
  EXPECT_TRUE(guess.tokens().empty());
}

}  // namespace
}  // namespace finermoe
