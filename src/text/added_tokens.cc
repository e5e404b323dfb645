#include "text/added_tokens.h"

#include <algorithm>

namespace finermoe {

void AddedTokens::add(std::string content, int32_t id, bool special) {
  begins_[static_cast<unsigned char>(content[0])] = true;
  tokens_.push_back({std::move(content), id, special});
}

void AddedTokens::finish() {
  std::sort(tokens_.begin(), tokens_.end(), [](const Token& a, const Token& b) { return a.content < b.content; });
}

// Narrows the sorted list, byte by byte, to the tokens that begin as the text does.
const AddedTokens::Token* AddedTokens::longest_at(std::string_view text) const {
  const Token* longest = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (size_t i = 0; i < text.size() && first != last; ++i) {
    auto byte = [i](const Token& token) { return static_cast<unsigned char>(token.content[i]); };
    auto wanted = static_cast<unsigned char>(text[i]);
    first = std::partition_point(first, last, [&](const Token& token) { return byte(token) < wanted; });
    last = std::partition_point(first, last, [&](const Token& token) { return byte(token) == wanted; });
    if (first != last && first->content.size() == i + 1) {
      longest = &*first;
      ++first;  // the others are longer
    }
  }
  return longest;
}

AddedTokens::Match AddedTokens::find(std::string_view text, size_t from) const {
  for (size_t at = from; at < text.size(); ++at) {
    if (!begins_[static_cast<unsigned char>(text[at])]) continue;
    if (const Token* token = longest_at(text.substr(at))) {
      return {at, at + token->content.size(), token->id, token->special};
    }
  }
  return {text.size(), text.size(), -1, false};
}

}  // namespace finermoe
