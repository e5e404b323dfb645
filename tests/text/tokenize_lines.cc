// The tokenizer as a filter, for the Python tests: tokenize_lines TOKENIZER_JSON [special]
// In, for each text: its length in bytes as a 32-bit little-endian number, and the bytes.
// Out, for each: the number of tokens, then id, begin and end of each, all 32-bit little-endian.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "text/tokenizer.h"

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  auto tokenizer = finermoe::Tokenizer::parse(json, "", std::nullopt);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str());
    return 1;
  }
  const bool parse_special = argc > 2 && std::strcmp(argv[2], "special") == 0;
  std::string text;
  std::vector<uint32_t> out;
  uint32_t length = 0;
  while (std::fread(&length, sizeof length, 1, stdin) == 1) {
    text.resize(length);
    if (std::fread(text.data(), 1, length, stdin) != length) return 1;
    out.assign(1, 0);
    auto status = (*tokenizer)->encode(text, parse_special, [&](int32_t id, finermoe::ByteRange range) {
      out.insert(out.end(),
                 {static_cast<uint32_t>(id), static_cast<uint32_t>(range.begin), static_cast<uint32_t>(range.end)});
    });
    if (!status.ok()) return 1;
    out[0] = static_cast<uint32_t>(out.size() / 3);
    std::fwrite(out.data(), sizeof out[0], out.size(), stdout);
  }
  return 0;
}
