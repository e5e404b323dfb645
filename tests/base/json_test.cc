#include "base/json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace finermoe {
namespace {

constexpr Code code = FINERMOE_ERROR_CONFIG_MALFORMED;

Json parsed(std::string_view text) {
  Result<Json> json = parse_json(text, "x", code);
  EXPECT_TRUE(json.ok()) << json.status().message();
  return json.ok() ? *json : Json();
}

TEST(Json, TypesOfValues) {
  const std::pair<const char*, const char*> types[] = {{"null", "null"}, {"true", "boolean"},     {"-3", "number"},
                                                       {"3", "number"},  {"3.0", "number"},       {"\"a\"", "string"},
                                                       {"[1]", "array"}, {"{\"a\": 1}", "object"}};
  for (const auto& [text, type] : types) EXPECT_STREQ(parsed(text).type_name(), type) << text;
  EXPECT_TRUE(parsed("3").is_number_unsigned());
  EXPECT_FALSE(parsed("-3").is_number_unsigned());
  EXPECT_TRUE(parsed("-3").is_number_integer());
  EXPECT_TRUE(parsed("3.0").is_number_float());
  EXPECT_FALSE(parsed("true").is_number());
}

TEST(Json, NumbersKeepAllTheirDigits) {
  EXPECT_EQ(parsed("18446744073709551615").get<uint64_t>(), UINT64_MAX);
  EXPECT_EQ(parsed("-9223372036854775808").get<int64_t>(), INT64_MIN);
  EXPECT_EQ(parsed("0.1").get<double>(), 0.1);
  EXPECT_EQ(parsed("-3").get<double>(), -3);
  EXPECT_EQ(parsed("0"), parsed("0.0"));
  EXPECT_EQ(parsed("0"), parsed("-0.0"));
  EXPECT_FALSE(parsed("1") == parsed("true"));
}

TEST(Json, MembersAndElements) {
  const Json json = parsed(R"({"a": [10, 20], "b": {"c": null}})");
  EXPECT_EQ(json.size(), 2u);
  EXPECT_EQ(json["a"][1], Json(20));
  EXPECT_EQ(json["a"].front(), Json(10));
  EXPECT_EQ(json["a"].back(), Json(20));
  EXPECT_TRUE(json["b"]["c"].is_null());
  EXPECT_TRUE(json["no"]["such"].is_null());
  EXPECT_TRUE(json["b"].contains("c"));
  EXPECT_EQ(json.find("c"), nullptr);
  EXPECT_EQ(json["a"].find("a"), nullptr);  // a list has no members
  int sum = 0;
  for (const Json& element : json["a"]) sum += element.get<int>();
  EXPECT_EQ(sum, 30);
  EXPECT_EQ(json.begin(), json.end());
}

TEST(Json, Building) {
  Json json;
  json["list"].push_back(1);
  json["list"].push_back("two");
  json["none"] = nullptr;
  json["gone"] = true;
  json.erase("gone");
  EXPECT_EQ(json.dump(), R"({"list":[1,"two"],"none":null})");
  EXPECT_EQ(json, parsed(json.dump(2)));
  Json copy = json;
  copy["list"].push_back(3);
  EXPECT_EQ(json["list"].size(), 2u);
  const Json moved = std::move(copy);
  EXPECT_EQ(moved["list"].size(), 3u);
}

TEST(Json, TheLastOfTwoKeysCounts) { EXPECT_EQ(parsed(R"({"a": 1, "b": 2, "a": [3]})").dump(), R"({"a":[3],"b":2})"); }

// As Python's json module writes them.
TEST(Json, Floats) {
  const std::pair<double, const char*> numbers[] = {
      {1.0, "1.0"},   {0.1, "0.1"},     {1e16, "1e+16"}, {123456789012345680.0, "1.2345678901234568e+17"},
      {-0.0, "-0.0"}, {1e-4, "0.0001"}, {1e-5, "1e-05"}, {5e-324, "5e-324"}};
  for (const auto& [number, text] : numbers) {
    EXPECT_EQ(Json(number).dump(), text);
    EXPECT_EQ(parsed(text).get<double>(), number);
  }
  EXPECT_EQ(Json(INFINITY).dump(), "null");
}

TEST(Json, BareNaNAndInfinityAreTheObjectsOfTransformers) {
  EXPECT_EQ(parsed(R"([NaN, -Infinity, "NaN", "\"NaN"])").dump(),
            R"([{"__float__":"NaN"},{"__float__":"-Infinity"},"NaN","\"NaN"])");
}

TEST(Json, StringsAreWrittenAsUtf8AndShownAsAscii) {
  const Json json = parsed(R"("é\n\u0001😀\"")");
  EXPECT_EQ(json.get<std::string>(), "é\n\x01😀\"");
  EXPECT_EQ(json.dump(), "\"é\\n\\u0001😀\\\"\"");
  EXPECT_EQ(json.show(), "\"\\u00e9\\n\\u0001\\ud83d\\ude00\\\"\"");
  EXPECT_EQ(Json("a\xff").dump(), "\"a\xef\xbf\xbd\"");
}

TEST(Json, WhatIsNone) {
  for (std::string_view text : {"", " ", "{", "[1,]", "{\"a\" 1}", "{\"a\": 1,}", "tru", "01", "1 2", "\"\x01\"", "'a'",
                                "\"\xff\"", "\"\\ud800\"", "nan", "1e999", "// comment\n1"}) {
    const Status status = parse_json(text, "the file", code).status();
    EXPECT_EQ(status.code(), code) << text;
    EXPECT_TRUE(status.message().starts_with("the file")) << status.message();
    EXPECT_EQ(status.message().find('\n'), std::string::npos);
  }
}

TEST(Json, DepthIsBounded) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(64), "x", code).ok());
  EXPECT_FALSE(parse_json(nested(65), "x", code).ok());
  EXPECT_FALSE(parse_json(std::string(1000000, '['), "x", code).ok());
}

}  // namespace
}  // namespace finermoe
