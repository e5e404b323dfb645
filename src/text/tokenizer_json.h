// What tokenizer.json and tokenizer_config.json say, checked against what is supported.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace finermoe {

// Short strings one after another in one piece of memory.
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

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;  // looked for after NFC, else before
};

struct TokenizerFile {
  StringList tokens;         // of the model's vocabulary, as the file spells them
  std::vector<int32_t> ids;  // [tokens]
  StringList merges;         // left and right parts in turn, by rank
  std::vector<AddedToken> added;
};

struct TokenizerConfig {
  std::optional<std::string> bos_token, eos_token, pad_token, chat_template;
};

constexpr int32_t kMaxTokenId = (1 << 22) - 1;  // what an id may make us allocate

Result<TokenizerFile> read_tokenizer_json(std::string_view text);
Result<TokenizerConfig> read_tokenizer_config(std::string_view text);

}  // namespace finermoe
