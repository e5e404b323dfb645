#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace finermoe {
namespace {

// Where the white space ending at `end` begins, but no earlier than `floor`.
size_t begin_of_space(std::string_view text, size_t floor, size_t end) {
  while (end > floor) {
    const Decoded previous = decode_utf8_before(text, end);
    if (!is_space(previous.code_point)) break;
    end -= previous.size;
  }
  return std::max(floor, end);
}

size_t end_of_space(std::string_view text, size_t begin) {
  while (begin < text.size()) {
    const Decoded next = decode_utf8(text, begin);
    if (!is_space(next.code_point)) break;
    begin += next.size;
  }
  return begin;
}

bool stands_alone(std::string_view text, size_t begin, size_t end) {
  return (begin == 0 || !is_word(decode_utf8_before(text, begin).code_point)) &&
         (end == text.size() || !is_word(decode_utf8(text, end).code_point));
}

}  // namespace

void AddedTokens::add(std::string content, const AddedToken& token) {
  begins_[static_cast<unsigned char>(content[0])] = true;
  tokens_.push_back(token);
  tokens_.back().content = std::move(content);
}

void AddedTokens::finish() {
  std::sort(tokens_.begin(), tokens_.end(),
            [](const AddedToken& a, const AddedToken& b) { return a.content < b.content; });
}

// Narrows the sorted list, byte by byte, to the tokens that share a prefix with the text.
const AddedToken* AddedTokens::longest_at(std::string_view text) const {
  const AddedToken* longest = nullptr;
  auto first = tokens_.begin(), last = tokens_.end();
  for (size_t i = 0; i < text.size() && first != last; ++i) {
    auto byte = [i](const AddedToken& token) { return static_cast<unsigned char>(token.content[i]); };
    auto wanted = static_cast<unsigned char>(text[i]);
    first = std::partition_point(first, last, [&](const AddedToken& token) { return byte(token) < wanted; });
    last = std::partition_point(first, last, [&](const AddedToken& token) { return byte(token) == wanted; });
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
    if (const AddedToken* token = longest_at(text.substr(at))) return {token, at};
  }
  return {};
}

Status AddedTokens::split(std::string_view text, bool parse_special,
                          FunctionRef<Status(size_t begin, size_t end, int32_t id)> part) const {
  size_t done = 0;
  size_t space_end = 0;  // of the run of white space examined last
  for (size_t from = 0; !empty() && from < text.size();) {
    const auto [token, found] = find(text, from);
    if (!token) break;
    size_t begin = found, end = found + token->content.size();
    from = end;
    if (token->special && !parse_special) continue;
    if (token->single_word && !stands_alone(text, begin, end)) continue;
    // White space taken by the previous token is not taken again, but a token inside it is still found.
    if (token->lstrip) begin = begin_of_space(text, done, begin);
    if (token->rstrip) end = space_end = end < space_end ? space_end : end_of_space(text, end);
    end = std::max(begin, end);
    if (done < begin) FM_TRY(part(done, begin, -1));
    FM_TRY(part(begin, end, token->id));
    done = end;
  }
  return done < text.size() ? part(done, text.size(), -1) : Status();
}

}  // namespace finermoe
