#include "text/tokenizer.h"
#include "text/unicode.h"

namespace finermoe {

void Utf8Stream::push(std::string_view bytes, std::string& out) {
  std::string joined;
  if (!pending_.empty()) {
    joined = pending_ + std::string(bytes);
    bytes = joined;
    pending_.clear();
  }
  for (size_t at = 0; at < bytes.size();) {
    Decoded next = decode_utf8(bytes, at);
    auto lead = static_cast<unsigned char>(bytes[at]);
    if (!next.valid && at + next.size == bytes.size() && lead >= 0xC2 && lead <= 0xF4) {
      pending_ = bytes.substr(at);  // it may yet become a character
      return;
    }
    append_utf8(next.code_point, out);
    at += next.size;
  }
}

void Utf8Stream::flush(std::string& out) {
  if (!pending_.empty()) append_utf8(kReplacement, out);
  pending_.clear();
}

std::string decode(const Tokenizer& tokenizer, std::span<const int32_t> ids, bool show_special) {
  std::string text;
  Utf8Stream stream;
  for (int32_t id : ids) {
    if (show_special || tokenizer.kind(id) != TokenKind::special) stream.push(tokenizer.bytes(id), text);
  }
  stream.flush(text);
  return text;
}

}  // namespace finermoe
