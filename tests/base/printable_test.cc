#include "base/printable.h"

#include <gtest/gtest.h>

namespace finermoe {
namespace {

TEST(Printable, TextStaysAsItIs) {
  for (const char* text : {"", "model.safetensors", "a \\ b", "Größe", "模型/重み", "\U0001f99d", "a\u00a0b"}) {
    EXPECT_EQ(printable(text), text);
  }
}

TEST(Printable, WhatATerminalWouldObeyIsWrittenOut) {
  EXPECT_EQ(printable("a\x1b[31mb"), "a\\x1b[31mb");
  EXPECT_EQ(printable("two\nlines\r\tand\x7f"), "two\\nlines\\r\\tand\\x7f");
  EXPECT_EQ(printable(std::string_view("\0", 1)), "\\x00");
  EXPECT_EQ(printable("\u009b31m"), "\\u009b31m");  // CSI in one character
  EXPECT_EQ(printable("exe.\u202egpj"), "exe.\\u202egpj");
  EXPECT_EQ(printable("\u2066x\u2069"), "\\u2066x\\u2069");
  EXPECT_EQ(printable("a\u2028b"), "a\\u2028b");
}

TEST(Printable, WhatIsNoUtf8IsWrittenOut) {
  EXPECT_EQ(printable("a\xff"), "a\\xff");
  EXPECT_EQ(printable("\xc3"), "\\xc3");                                 // cut off
  EXPECT_EQ(printable("\xc0\x8a"), "\\xc0\\x8a");                        // a newline, overlong
  EXPECT_EQ(printable("\xed\xa0\x80"), "\\xed\\xa0\\x80");               // a surrogate
  EXPECT_EQ(printable("\xf4\x90\x80\x80"), "\\xf4\\x90\\x80\\x80");      // beyond the last character
  EXPECT_EQ(printable("\xe9t\xe9 \xe2\x82\xac"), "\\xe9t\\xe9 \u20ac");  // Latin-1 before UTF-8
}

}  // namespace
}  // namespace finermoe
