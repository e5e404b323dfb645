// Finds added tokens in text: the leftmost, and of those the longest, as Hugging Face does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace finermoe {

class AddedTokens {
 public:
  struct Match {
    size_t begin = 0, end = 0;
    int32_t id = -1;  // -1: none in the rest of the text
    bool special = false;
  };

  void add(std::string content, int32_t id, bool special);  // contents must differ
  void finish();                                            // after the last add
  bool empty() const { return tokens_.empty(); }
  // The first at or after `from`. Time: the text passed over, times the longest token.
  Match find(std::string_view text, size_t from) const;

 private:
  struct Token {
    std::string content;
    int32_t id;
    bool special;
  };
  const Token* longest_at(std::string_view text) const;

  std::vector<Token> tokens_;  // by content
  bool begins_[256] = {};      // whether some token begins with the byte
};

}  // namespace finermoe
