// What a tokenizer's files say, checked against what is supported: tokenizer.json, or vocab.json and merges.txt.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/added_tokens.h"
#include "text/components.h"

namespace finermoe {

// Short strings, stored back to back.
class StringList {
 public:
  void add(std::string_view text) {
    bytes_ += text;
    ends_.push_back(bytes_.size());
  }
  size_t size() const { return ends_.size(); }
  std::string_view operator[](size_t i) const {
    size_t begin = i == 0 ? 0 : ends_[i - 1];
    return std::string_view(bytes_).substr(begin, ends_[i] - begin);
  }

 private:
  std::string bytes_;
  std::vector<size_t> ends_;
};

struct TokenizerFile {
  std::string_view name = "tokenizer.json";  // in messages
  StringList tokens;                         // of the model's vocabulary, as the file spells them
  std::vector<int32_t> ids;                  // [tokens]
  StringList merges;                         // left and right parts in turn, by rank
  std::vector<AddedToken> added;
  Components components;
};

constexpr int32_t kMaxTokenId = (1 << 22) - 1;  // bounds what an id can make us allocate

Result<TokenizerFile> read_tokenizer_json(std::string_view text);
// The id and flags of an added token, as tokenizer.json and added_tokens_decoder write them.
Result<AddedToken> read_added_token(std::string_view file, const Json& id, const Json& entry);

}  // namespace finermoe
