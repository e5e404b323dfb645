#include "sampling/stop_strings.h"

#include <gtest/gtest.h>

#include <random>

namespace finermoe {
namespace {

struct Shown {
  std::string text, held;
  bool stopped = false;
};

// Pushes the pieces until a stop string comes.
Shown push_all(const std::vector<std::string>& stops, const std::vector<std::string>& pieces) {
  const StopStrings stop_strings(stops);
  Shown shown;
  for (const std::string& piece : pieces) {
    shown.stopped = stop_strings.push(shown.held, piece, true, shown.text);
    if (shown.stopped) break;
  }
  return shown;
}

TEST(StopStrings, NothingIsHeldWithoutAny) {
  const Shown shown = push_all({}, {"a", "", "bc"});
  EXPECT_EQ(shown.text, "abc");
  EXPECT_EQ(shown.held, "");
  EXPECT_FALSE(shown.stopped);
}

TEST(StopStrings, TextEndsBeforeTheStringAndWhatFollowsIsDropped) {
  const Shown shown = push_all({"END"}, {"one END two", " three"});
  EXPECT_TRUE(shown.stopped);
  EXPECT_EQ(shown.text, "one ");
  EXPECT_EQ(shown.held, "");
}

TEST(StopStrings, OnlyWhatMayBecomeOneIsHeld) {
  const StopStrings stop_strings({"END", "NOW"});
  std::string held, out;
  EXPECT_FALSE(stop_strings.push(held, "xE", true, out));
  EXPECT_EQ(out, "x");
  EXPECT_EQ(held, "E");
  EXPECT_FALSE(stop_strings.push(held, "NO", true, out));  // ENO is no beginning, NO is
  EXPECT_EQ(out, "xE");
  EXPECT_EQ(held, "NO");
  EXPECT_FALSE(stop_strings.push(held, "t", true, out));
  EXPECT_EQ(out, "xENOt");
  EXPECT_EQ(held, "");
}

TEST(StopStrings, TheFirstInTheTextCounts) {
  EXPECT_EQ(push_all({"later", "b"}, {"a b later"}).text, "a ");
  EXPECT_EQ(push_all({"bcd", "abcde"}, {"xabcde"}).text, "x");
}

TEST(StopStrings, NoCharacterIsCutInTwo) {
  // The stop string is the end of one character's bytes with another character.
  const StopStrings stop_strings({"\xa9x"});
  std::string held, out;
  EXPECT_FALSE(stop_strings.push(held, "a\xc3\xa9", true, out));
  EXPECT_EQ(out, "a");
  EXPECT_EQ(held, "\xc3\xa9");
}

TEST(StopStrings, EverythingPassesWhileItMayNotStop) {
  const StopStrings stop_strings({"END"});
  std::string held, out;
  EXPECT_FALSE(stop_strings.push(held, "END EN", false, out));
  EXPECT_EQ(out, "END EN");
  EXPECT_EQ(held, "");
  EXPECT_FALSE(stop_strings.push(held, "EN", true, out));
  EXPECT_FALSE(stop_strings.push(held, "x", false, out));  // what was held passes, too
  EXPECT_EQ(out, "END ENENx");
}

// However the text is cut: all of it comes out, or what stands before a stop string.
TEST(StopStrings, PiecesDoNotMatter) {
  std::mt19937 random(1);
  const auto any = [&](size_t most) {
    std::string text(random() % most + 1, 'a');
    for (char& c : text) c = "ab"[random() % 2];
    return text;
  };
  for (int round = 0; round < 2000; round++) {
    const std::vector<std::string> stops = {any(4), any(6)};
    const std::string text = any(20);
    std::vector<std::string> pieces;
    for (size_t at = 0; at < text.size(); at += pieces.back().size())
      pieces.push_back(text.substr(at, random() % 4 + 1));
    const Shown shown = push_all(stops, pieces);
    const size_t first = std::min(text.find(stops[0]), text.find(stops[1]));
    EXPECT_EQ(shown.stopped, first != std::string::npos);
    if (shown.stopped) {
      EXPECT_TRUE(text.starts_with(shown.text));
      const std::string rest = text.substr(shown.text.size());
      EXPECT_TRUE(rest.starts_with(stops[0]) || rest.starts_with(stops[1])) << text;
    } else {
      EXPECT_EQ(shown.text + shown.held, text);
    }
  }
}

}  // namespace
}  // namespace finermoe
