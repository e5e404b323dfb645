// The bundled tokenizer, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace finermoe {

inline std::string bundled(const std::string& name) {
  const char* source = std::getenv("FINERMOE_SOURCE");
  std::string path = std::string(source ? source : ".") + "/examples/models/tiny-wordnet-dense/" + name;
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline Result<std::shared_ptr<const Tokenizer>> parse(const std::string& json,
                                                      std::optional<std::string> config = std::nullopt,
                                                      std::optional<std::string> chat_template = std::nullopt) {
  TokenizerTexts texts;
  texts.tokenizer_json = std::optional(json);
  texts.config = std::move(config);
  texts.chat_template = std::move(chat_template);
  return Tokenizer::parse(texts);
}

inline const Tokenizer& tiny() {
  static const auto tokenizer = parse(bundled("tokenizer.json"), bundled("tokenizer_config.json"));
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status().message();
  return **tokenizer;
}

inline std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text, bool parse_special = false) {
  std::vector<int32_t> ids;
  EXPECT_TRUE(
      tokenizer.encode(text, {.parse_special = parse_special}, [&](int32_t id, ByteRange) { ids.push_back(id); }).ok());
  return ids;
}

}  // namespace finermoe
