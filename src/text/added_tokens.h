// Finds added tokens in text: leftmost first, and the longest of those, as Hugging Face does.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/function_ref.h"
#include "base/status.h"

namespace finermoe {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool special = false;
  bool normalized = false;   // matched after normalization, else before
  bool single_word = false;  // only if no letter, number or mark is next to it
  bool lstrip = false;       // consumes the white space before it
  bool rstrip = false;       // consumes the white space after it
};

class AddedTokens {
 public:
  // `content`: the token's, perhaps normalized. Contents must be distinct.
  void add(std::string content, const AddedToken& token);
  void finish();  // after the last add
  bool empty() const { return tokens_.empty(); }
  // Calls part(begin, end, id) for the added tokens in the text, and with -1 for the text between them. A special token
  // that was not asked for stays text, but no other token is found inside it, as in Hugging Face.
  // Time: length of the text times length of the longest token.
  Status split(std::string_view text, bool parse_special,
               FunctionRef<Status(size_t begin, size_t end, int32_t id)> part) const;

 private:
  struct Match {
    const AddedToken* token = nullptr;  // null: none in the rest of the text
    size_t begin = 0;
  };
  Match find(std::string_view text, size_t from) const;
  const AddedToken* longest_at(std::string_view text) const;

  std::vector<AddedToken> tokens_;  // sorted by content, which is what is matched
  bool begins_[256] = {};           // whether some token begins with the byte
};

}  // namespace finermoe
