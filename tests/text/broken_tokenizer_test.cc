// tokenizer.json files that are refused: each with its code and a message that names what was found.
#include <nlohmann/json.hpp>

#include "support.h"

namespace finermoe {
namespace {

using Json = nlohmann::json;

// The bundled file, smaller: the 256 bytes, three merges, and the special tokens.
Json valid() {
  static const Json whole = Json::parse(bundled("tokenizer.json"));
  Json json = whole;
  Json vocab = Json::object();
  for (auto& [token, id] : whole["model"]["vocab"].items()) {
    if (id < 256) vocab[token] = id;
  }
  vocab["ab"] = 256, vocab["cd"] = 257, vocab["abcd"] = 258;
  json["model"]["vocab"] = vocab;
  json["model"]["merges"] = Json::array({"a b", Json::array({"c", "d"}), "ab cd"});
  json["added_tokens"][0]["id"] = 300;
  json["added_tokens"][1]["id"] = 301;
  json["added_tokens"][2]["id"] = 302;
  return json;
}

Json with(const char* pointer, Json value) {
  Json json = valid();
  json[Json::json_pointer(pointer)] = std::move(value);
  return json;
}

Json without(const char* parent, const char* key) {
  Json json = valid();
  json[Json::json_pointer(parent)].erase(key);
  return json;
}

void expect_text(Code code, const std::string& part, const std::string& text) {
  auto result = parse(text);
  EXPECT_EQ(result.status().code(), code) << text.substr(0, 200);
  EXPECT_NE(result.status().message().find(part), std::string::npos)
      << "\"" << part << "\" is not in: " << result.status().message();
}
void expect(Code code, const std::string& part, const Json& json) { expect_text(code, part, json.dump()); }

constexpr Code kMalformed = FINERMOE_ERROR_TOKENIZER_MALFORMED, kMerges = FINERMOE_ERROR_TOKENIZER_MERGES,
               kComponent = FINERMOE_ERROR_TOKENIZER_COMPONENT;

TEST(BrokenTokenizer, TheBaseIsValid) {
  auto tokenizer = parse(valid().dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  EXPECT_EQ(encode(**tokenizer, "abcd"), std::vector<int32_t>{258});
  EXPECT_EQ((*tokenizer)->vocab_size(), 303u);
  EXPECT_EQ((*tokenizer)->kind(280), TokenKind::unused);
}

TEST(BrokenTokenizer, Json) {
  const std::string text = valid().dump();
  expect_text(kMalformed, "tokenizer.json", std::string());
  expect_text(kMalformed, "tokenizer.json", text.substr(0, text.size() / 2));
  expect_text(kMalformed, "not an object", std::string("[]"));
  expect_text(kMalformed, "deeper", std::string(100'000, '['));
  expect_text(kMalformed, "version", "{\"version\": 1, \"version\": 2}");
  expect_text(kMalformed, "tokenizer.json", "{\"model\": {\"vocab\": {\"\xFF\": 1}}}");
  for (size_t cut = 0; cut < text.size(); cut += 97) {
    EXPECT_EQ(parse(text.substr(0, cut)).status().code(), kMalformed);
  }
}

TEST(BrokenTokenizer, Vocabulary) {
  expect(kMalformed, "no vocab", without("/model", "vocab"));
  expect(kMalformed, "no vocab", with("/model/vocab", Json::array()));
  expect(kMalformed, "-1", with("/model/vocab/ab", -1));
  expect(kMalformed, "4194304", with("/model/vocab/ab", 4194304));
  expect(kMalformed, "1.5", with("/model/vocab/ab", 1.5));
  expect_text(kMalformed, "18446744073709551616", std::string("{\"model\":{\"vocab\":{\"a\":18446744073709551616}}}"));
  expect(kMalformed, "not a number", with("/model/vocab/ab", "x"));
  expect(kMalformed, "not a number", with("/model/vocab/ab", Json::object()));
  expect(kMalformed, "257 appears twice", with("/model/vocab/ab", 257));
  expect(kMalformed, "lacks the byte 97", without("/model/vocab", "a"));
  std::string twice = valid().dump();
  twice.replace(twice.find("\"cd\":257"), 8, "\"ab\":259");
  expect_text(kMalformed, "\"ab\" appears twice", twice);
}

TEST(BrokenTokenizer, Merges) {
  expect(kMerges, "no merges", without("/model", "merges"));
  expect(kMerges, "no merges", with("/model/merges", nullptr));
  expect(kMerges, "no merges", with("/model/merges", Json::array()));
  expect(kMerges, "left part", with("/model/merges/0", "xy b"));
  expect(kMerges, "right part", with("/model/merges/0", "a xy"));
  expect(kMerges, "result", with("/model/merges/0", "a z"));
  expect(kMerges, "two tokens", with("/model/merges/0", "ab"));
  expect(kMerges, "two tokens", with("/model/merges/0", "a b c"));
  expect(kMerges, "3 parts", with("/model/merges/0", Json::array({"a", "b", "c"})));
  expect(kMerges, "strings", with("/model/merges/0", 7));
  expect(kMerges, "appears twice", with("/model/merges/1", "a b"));
  Json cyclic = with("/model/vocab/", 259);
  cyclic["model"]["merges"][0] = Json::array({"", "a"});
  expect(FINERMOE_ERROR_TOKENIZER_CYCLIC, "own parts", cyclic);
}

TEST(BrokenTokenizer, AddedTokens) {
  expect(kMalformed, "expected 0 to", with("/added_tokens/0/id", -1));
  expect(kMalformed, "expected 0 to", with("/added_tokens/0/id", 1u << 30));
  expect(kMalformed, "is taken by", with("/added_tokens/0/id", 5));
  expect(kMalformed, "is taken by", with("/added_tokens/0/id", 301));
  expect(kMalformed, "has the ids", with("/added_tokens/0/content", "<|im_start|>"));
  expect(kMalformed, "content", with("/added_tokens/0/content", ""));
  expect(kMalformed, "content", with("/added_tokens/0/content", std::string(5000, 'x')));
  expect(kMalformed, "not an array", with("/added_tokens", 1));
}

TEST(BrokenTokenizer, ComponentsAreNamed) {
  expect(kComponent, "NFKC", with("/normalizer/type", "NFKC"));
  expect(kComponent, "Lowercase",
         with("/normalizer", Json{{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}}));
  expect(kComponent, "Whitespace", with("/pre_tokenizer", {{"type", "Whitespace"}}));
  expect(kComponent, "Digits", with("/pre_tokenizer/pretokenizers/0", {{"type", "Digits"}}));
  expect(kComponent, "Metaspace", with("/pre_tokenizer/pretokenizers/1", {{"type", "Metaspace"}}));
  expect(kComponent, "{1,3}", with("/pre_tokenizer/pretokenizers/0/pattern/Regex", "\\p{N}{1,3}"));
  expect(kComponent, "Removed", with("/pre_tokenizer/pretokenizers/0/behavior", "Removed"));
  expect(kComponent, "add_prefix_space", with("/pre_tokenizer/pretokenizers/1/add_prefix_space", true));
  expect(kComponent, "use_regex", with("/pre_tokenizer/pretokenizers/1/use_regex", true));
  expect(kComponent, "Metaspace", with("/decoder", {{"type", "Metaspace"}}));
  expect(kComponent, "Unigram", with("/model/type", "Unigram"));
  expect(kComponent, "dropout", with("/model/dropout", 0.1));
  expect(kComponent, "continuing_subword_prefix", with("/model/continuing_subword_prefix", "##"));
  expect(kComponent, "a Sequence of 3", with("/pre_tokenizer/pretokenizers/2", {{"type", "ByteLevel"}}));
}

Json template_of(Json single) {
  Json special = {{"<s>", {{"id", "<s>"}, {"ids", {300}}, {"tokens", {"<s>"}}}}};
  return {{"type", "TemplateProcessing"},
          {"single", std::move(single)},
          {"pair", Json::array()},
          {"special_tokens", std::move(special)}};
}
Json special_piece(const char* name) { return {{"SpecialToken", {{"id", name}, {"type_id", 0}}}}; }
Json sequence_piece(const char* name) { return {{"Sequence", {{"id", name}, {"type_id", 0}}}}; }

TEST(BrokenTokenizer, PostProcessors) {
  const Json text = sequence_piece("A"), bos = special_piece("<s>");
  auto with_processor = [](Json json) { return with("/post_processor", std::move(json)); };
  expect(kComponent, "once", with_processor(template_of(Json::array())));
  expect(kComponent, "once", with_processor(template_of({text, text})));
  expect(kComponent, "once", with_processor(template_of({sequence_piece("B")})));
  expect(kComponent, "once", with_processor(template_of({bos})));
  expect(kMalformed, "</s>", with_processor(template_of({text, special_piece("</s>")})));
  expect(kMalformed, "piece", with_processor(template_of({text, 5})));
  for (Json ids : {Json(-1), Json(1u << 30), Json("x"), Json(1.5)}) {
    Json json = template_of({bos, text});
    json["special_tokens"]["<s>"]["ids"] = {ids};
    expect(kMalformed, "expected numbers", with_processor(json));
  }
  Json unknown = template_of({bos, text});
  unknown["special_tokens"]["<s>"]["ids"] = {299};
  expect(kMalformed, "299", with_processor(unknown));
  expect(kMalformed, "cls", with_processor({{"type", "RobertaProcessing"}, {"sep", {"</s>", 2}}}));
  const Json twice = Json::array({template_of({bos, text}), template_of({text, bos})});
  expect(kComponent, "several", with_processor({{"type", "Sequence"}, {"processors", twice}}));
  expect(kComponent, "Whitespace", with_processor({{"type", "Whitespace"}}));
}

TEST(PostProcessor, ItsTokensAreLeftOutOnRequest) {
  Json json = with("/post_processor", template_of({special_piece("<s>"), sequence_piece("A"), special_piece("<s>")}));
  auto tokenizer = parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  auto ids = [&](std::string_view text, bool add_special) {
    std::vector<int32_t> found;
    auto emit = [&](int32_t id, ByteRange range) {
      found.push_back(id);
      if (id == 300) {
        EXPECT_EQ(range.end, 0u);
      }
    };
    EXPECT_TRUE((*tokenizer)->encode(text, {.add_special = add_special}, emit).ok());
    return found;
  };
  EXPECT_EQ(ids("abcd", true), (std::vector<int32_t>{300, 258, 300}));
  EXPECT_EQ(ids("abcd", false), std::vector<int32_t>{258});
  EXPECT_EQ(ids("", true), (std::vector<int32_t>{300, 300}));
  EXPECT_EQ(ids("", false), std::vector<int32_t>{});
}

TEST(AddedTokens, MatchAsHuggingFaceDoes) {
  Json json = valid();
  json["added_tokens"].push_back({{"id", 310}, {"content", "<x"}, {"special", false}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", 311}, {"content", "<x>y"}, {"special", false}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", 312},
                                  {"content",
                                   "\xC3\xA9"
                                   "E"},
                                  {"special", false},
                                  {"normalized", true}});
  json["added_tokens"].push_back({{"id", 313}, {"content", "abc"}, {"special", true}, {"normalized", false}});
  json["added_tokens"].push_back({{"id", 314}, {"content", "bcd"}, {"special", false}, {"normalized", false}});
  auto tokenizer = parse(json.dump());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  auto id = [&](std::string_view byte) { return (*tokenizer)->find(byte); };
  EXPECT_EQ(encode(**tokenizer, "<x>y<x>"), (std::vector<int32_t>{311, 310, id(">")}));  // the longest
  EXPECT_EQ(encode(**tokenizer,
                   "e\xCC\x81"
                   "E"),
            std::vector<int32_t>{312});                                                // after NFC
  EXPECT_EQ(encode(**tokenizer, "abcd", true), (std::vector<int32_t>{313, id("d")}));  // the leftmost
  EXPECT_EQ(encode(**tokenizer, "abcd", false), std::vector<int32_t>{258});  // text, and nothing else is found in it
}

}  // namespace
}  // namespace finermoe
