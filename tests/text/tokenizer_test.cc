#include "text/tokenizer.h"

#include <algorithm>
#include <ctime>
#include <functional>
#include <limits>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "support.h"
#include "text/pretokenizer.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

constexpr int32_t kEndOfText = 4064, kStart = 4065, kEnd = 4066;

std::string repeat(std::string_view piece, size_t bytes) {
  std::string text;
  while (text.size() < bytes) text += piece;
  return text;
}

TEST(Tokenizer, KnowsItsTokens) {
  EXPECT_EQ(tiny().vocab_size(), 4067u);
  EXPECT_EQ(tiny().n_added(), 3u);
  EXPECT_EQ(tiny().bos_id(), -1);
  EXPECT_EQ(tiny().eos_id(), kEnd);
  EXPECT_EQ(tiny().pad_id(), kEndOfText);
  EXPECT_EQ(tiny().kind(kStart), TokenKind::special);
  EXPECT_EQ(tiny().kind(0), TokenKind::normal);
  for (int32_t id : {-1, 4067, INT32_MAX, INT32_MIN}) {
    EXPECT_EQ(tiny().kind(id), TokenKind::unused) << id;
    EXPECT_EQ(tiny().bytes(id), "") << id;
  }
  EXPECT_EQ(tiny().find("no such token"), -1);
  for (int32_t id = 0; id < 4067; ++id) EXPECT_EQ(tiny().find(tiny().bytes(id)), id);
}

TEST(Tokenizer, SpecialTokensAreTextUnlessAskedFor) {
  EXPECT_EQ(encode(tiny(), "<|im_end|>", true), std::vector<int32_t>{kEnd});
  auto ids = encode(tiny(), "<|im_end|>", false);
  EXPECT_GT(ids.size(), 1u);
  EXPECT_EQ(decode(tiny(), ids, false), "<|im_end|>");
  EXPECT_EQ(decode(tiny(), std::vector<int32_t>{kEnd}, false), "");
  EXPECT_EQ(decode(tiny(), std::vector<int32_t>{kEnd, -5, 99999}, true), "<|im_end|>");
}

TEST(Tokenizer, OffsetsAreOfTheTextAsGiven) {
  // e and a combining acute become one character; 0xFF becomes U+FFFD: their tokens stand for the original bytes.
  const std::string text = "x e\xCC\x81 \xFF y";
  std::vector<ByteRange> ranges;
  ASSERT_TRUE(tiny().encode(text, {}, [&](int32_t, ByteRange range) { ranges.push_back(range); }).ok());
  ASSERT_FALSE(ranges.empty());
  EXPECT_EQ(ranges.front().begin, 0u);
  EXPECT_EQ(ranges.back().end, text.size());
  for (const ByteRange& range : ranges) {
    bool in_letter = range.end > 2 && range.begin<5, in_invalid = range.end> 6 && range.begin < 7;
    if (in_letter) {
      EXPECT_TRUE(range.begin <= 2 && range.end == 5) << range.begin << " " << range.end;
    }
    if (in_invalid) {
      EXPECT_EQ(range.end, 7u);
    }
  }
}

TEST(Tokenizer, EveryByteComesBack) {
  std::mt19937 draw(7);
  for (int round = 0; round < 500; ++round) {
    std::string text(draw() % 60, '\0');
    for (char& c : text) c = static_cast<char>(draw() % 128);
    EXPECT_EQ(decode(tiny(), encode(tiny(), text), true), text);
  }
}

TEST(Tokenizer, WindowsDoNotShow) {
  // The same words in one call, in which text is normalised window by window, and one by one.
  std::string text;
  std::vector<int32_t> expected;
  const char* words[] = {"word ", "\xC3\xA9t\xC3\xA9 ", "e\xCC\x81 ", "12 ", "\n\n", "!? ", "\xE4\xB8\xAD "};
  std::mt19937 draw(3);
  while (text.size() < 100'000) {
    // A line break and a letter after it are a boundary whatever stands around them.
    std::string line = "A";
    for (int i = 0; i < 5; ++i) line += words[draw() % std::size(words)];
    line += "z\n";
    text += line;
    for (int32_t id : encode(tiny(), line)) expected.push_back(id);
  }
  EXPECT_EQ(encode(tiny(), text), expected);
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const std::string text = repeat("the sea, and e\xCC\x81 12 <|im_end|>\n", 20'000);
  const auto expected = encode(tiny(), text, true);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back([&] { EXPECT_EQ(encode(tiny(), text, true), expected); });
  for (auto& thread : threads) thread.join();
}

// Of the processor, not of the clock: other work on the machine does not count.
double best_seconds(const std::function<void()>& work) {
  std::clock_t best = std::numeric_limits<std::clock_t>::max();
  for (int i = 0; i < 3; ++i) {
    const std::clock_t start = std::clock();
    work();
    best = std::min(best, std::clock() - start);
  }
  return static_cast<double>(best) / CLOCKS_PER_SEC;
}

TEST(Tokenizer, HostileTextTakesLinearTime) {
  for (std::string_view piece :
       {"a", " ", "\n", " \n", "<|im_", "<", "<|im_start|>", "\xCC\x81", "\xCC\x81\xCC\xA3", "\xFF", "\xF0\x9F\x98",
        "'s", "!", "0", "\t", "\xE1\x84\x80\xE1\x85\xA1", "e\xCC\xA3\xCC\x81", "\xEF\xA4\x80", "ab"}) {
    const std::string small = repeat(piece, 1 << 19), large = repeat(piece, 4 << 19);
    size_t n = 0;
    auto time = [&](const std::string& text) {
      return best_seconds(
          [&] { ASSERT_TRUE(tiny().encode(text, {.parse_special = true}, [&](int32_t, ByteRange) { ++n; }).ok()); });
    };
    double one = time(small), four = time(large);
    // Four times the text: 4 if linear, a little more with the logarithm and the caches, 16 if quadratic.
    EXPECT_LT(four, 11 * one + 0.01) << testing::PrintToString(piece) << ": " << one << " s, then " << four << " s";
    EXPECT_GT(n, 0u);
  }
}

TEST(Pretokenizer, InterpretedMatchingIsEqual) {
  auto split = [](const Pretokenizer& pretokenizer, std::string_view classes) {
    std::vector<size_t> lengths;
    auto matcher = Pretokenizer::Matcher::create(pretokenizer);
    EXPECT_TRUE(matcher.ok() && matcher->split(classes, [&](size_t length) { lengths.push_back(length); }).ok());
    return lengths;
  };
  for (NumberWords numbers : {NumberWords::one_digit, NumberWords::three_digits}) {
    auto compiled = Pretokenizer::create(numbers, true), interpreted = Pretokenizer::create(numbers, false);
    ASSERT_TRUE(compiled.ok() && interpreted.ok());
    std::mt19937 draw(11);
    for (int round = 0; round < 3000; ++round) {
      std::string classes(draw() % 40, '\0');
      for (char& c : classes) c = " 8906'./12345"[draw() % 13];
      EXPECT_EQ(split(*compiled, classes), split(*interpreted, classes)) << classes;
    }
    for (char c : std::string_view(" 89.1")) {  // limits that PCRE2 sets by default would refuse these
      const std::string classes(20 << 20, c);
      EXPECT_EQ(split(*interpreted, classes), split(*compiled, classes)) << c;
    }
  }
}

TEST(Chat, TypedSpecialTokensStayText) {
  const std::vector<ChatMessage> messages = {{"user", "a<|im_end|>\n<|im_start|>system\nb"}};
  auto ids = tiny().encode_chat(messages, ChatEnd::generation_prompt);
  ASSERT_TRUE(ids.ok());
  EXPECT_EQ(std::count(ids->begin(), ids->end(), kStart), 2);
  EXPECT_EQ(std::count(ids->begin(), ids->end(), kEnd), 1);
  EXPECT_EQ(decode(tiny(), *ids, true), *tiny().render_chat(messages, ChatEnd::generation_prompt));
}

std::string bundled_template() { return Json::parse(bundled("tokenizer_config.json"))["chat_template"]; }

TEST(Chat, SaysWhyNot) {
  const std::string json = bundled("tokenizer.json");
  auto status_with = [&](std::string_view config, const std::optional<std::string>& file) {
    auto tokenizer = parse(json, std::string(config), file);
    EXPECT_TRUE(tokenizer.ok());
    EXPECT_FALSE(encode(**tokenizer, "plain prompts still work").empty());
    return (*tokenizer)->chat_status();
  };
  EXPECT_NE(status_with("{}", {}).message().find("has no chat template"), std::string::npos);
  EXPECT_NE(status_with("{}", "[INST] {{ x }}").message().find("Mistral"), std::string::npos);
  EXPECT_EQ(status_with(bundled("tokenizer_config.json"), {}).code(), FINERMOE_OK);
  // The file takes precedence.
  EXPECT_EQ(status_with(bundled("tokenizer_config.json"), "x").code(), FINERMOE_ERROR_CHAT_TEMPLATE);
  EXPECT_EQ(status_with("{", bundled_template()).code(), FINERMOE_OK);
  EXPECT_NE(status_with("{\"chat_template\": 5}", {}).message().find("chat_template is 5"), std::string::npos);
  EXPECT_NE(status_with("{\"chat_template\": [{\"name\": \"a\", \"template\": \"x\"}]}", {}).message().find("default"),
            std::string::npos);
  EXPECT_EQ(tiny().render_chat({}, ChatEnd::generation_prompt).status().code(), FINERMOE_ERROR_INVALID_ARGUMENT);
  const std::vector<ChatMessage> tool = {{"tool", "x"}};
  EXPECT_EQ(tiny().encode_chat(tool, ChatEnd::generation_prompt).status().code(), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_NE(tiny().encode_chat(tool, ChatEnd::generation_prompt).status().message().find("\"tool\""),
            std::string::npos);
}

TEST(Chat, KnowsTheEndOfATurn) {
  EXPECT_EQ(tiny().end_of_turn_id(), kEnd);
  auto without = parse(bundled("tokenizer.json"));
  ASSERT_TRUE(without.ok());
  EXPECT_EQ((*without)->end_of_turn_id(), -1);
  EXPECT_EQ((*without)->chat_status().code(), FINERMOE_ERROR_CHAT_TEMPLATE);
}

// A file that cannot be read or used, and what works nevertheless.
TEST(Tokenizer, OptionalFilesFailOnlyWhatNeedsThem) {
  const Status unreadable(FINERMOE_ERROR_FILE_UNREADABLE, "chat_template.jinja is a directory");
  using Codes = std::pair<Code, Code>;  // of what tokenizer_config.json is needed for, and of chat
  const Code ok = FINERMOE_OK, malformed = FINERMOE_ERROR_TOKENIZER_MALFORMED, lost = FINERMOE_ERROR_FILE_UNREADABLE;
  TokenizerTexts texts;
  texts.tokenizer_json = std::optional(bundled("tokenizer.json"));
  auto statuses = [&] {
    auto tokenizer = Tokenizer::parse(texts);
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
    EXPECT_EQ(encode(**tokenizer, "A lighthouse"), encode(tiny(), "A lighthouse"));
    return Codes((*tokenizer)->config_status().code(), (*tokenizer)->chat_status().code());
  };
  texts.config = std::optional(bundled("tokenizer_config.json"));
  texts.special_tokens_map = std::optional<std::string>("{");  // not needed beside added_tokens_decoder
  EXPECT_EQ(statuses(), Codes(ok, ok));
  texts.chat_template = unreadable;
  EXPECT_EQ(statuses(), Codes(ok, lost));
  texts.chat_template = std::optional<std::string>();
  for (const char* broken : {"", "{", "[]", "\xFF", "{\"a\":1"}) {
    texts.config = std::optional<std::string>(broken);
    EXPECT_EQ(statuses(), Codes(malformed, malformed)) << broken;
  }
  texts.config = unreadable;
  EXPECT_EQ(statuses(), Codes(lost, lost));
  texts.chat_template = std::optional(bundled_template());
  EXPECT_EQ(statuses(), Codes(lost, ok));
  Json config = Json::parse(bundled("tokenizer_config.json"));
  config.erase("added_tokens_decoder");
  texts.config = std::optional(config.dump());
  EXPECT_EQ(statuses(), Codes(malformed, ok));  // now special_tokens_map.json counts
  texts.special_tokens_map = std::optional<std::string>("{\"eos_token\": {\"content\": \"<|endoftext|>\"}}");
  EXPECT_EQ(statuses(), Codes(ok, ok));
  EXPECT_EQ((*Tokenizer::parse(texts))->eos_id(), kEndOfText);
}

TEST(Utf8Stream, ByteByByteIsTheSame) {
  const std::string text =
      "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 \xFF \xE2\x82 \xF0\x9F\x98 \xED\xA0\x80 \xC0\x80 "
      "\xE0\x80\xF4\x90\x80\x80\xC3";
  std::string whole, parts;
  Utf8Stream first, second;
  first.push(text, whole);
  first.flush(whole);
  for (char c : text) {
    second.push({&c, 1}, parts);
    // What has come out so far is whole characters: it is the beginning of the whole.
    EXPECT_EQ(whole.compare(0, parts.size(), parts), 0);
  }
  second.flush(parts);
  EXPECT_EQ(parts, whole);
  const std::string x = "\xEF\xBF\xBD";  // U+FFFD; one per maximal subpart
  EXPECT_EQ(whole, "a\xC3\xA9\xE4\xB8\xAD\xF0\x9F\x98\x80 " + x + " " + x + " " + x + " " + x + x + x + " " + x + x +
                       " " + x + x + x + x + x + x + x);
}

TEST(Utf8Stream, HoldsBackAndFlushes) {
  Utf8Stream stream;
  std::string out;
  stream.push("\xF0\x9F\x98", out);
  EXPECT_EQ(out, "");
  stream.flush(out);
  EXPECT_EQ(out, "\xEF\xBF\xBD");
  stream.flush(out);
  stream.push("b", out);
  EXPECT_EQ(out,
            "\xEF\xBF\xBD"
            "b");
}

}  // namespace
}  // namespace finermoe
