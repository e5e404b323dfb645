// The tokenizer as a filter, for the Python tests: tokenize_lines FOLDER_OR_FILE [special] [bare] [decode]
// In, for each text: its length in bytes as a 32-bit little-endian number, and the bytes.
// Out, for each: the number of tokens, then id, begin and end of each, all 32-bit little-endian. With "decode": in that
// place the ids' text, as its length and bytes. "special": special tokens in the text become ids; "bare": none are put
// around it.
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace {

finermoe::TokenizerTexts::Text read_file(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file.good()) return std::optional<std::string>();
  return std::optional(std::string(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()));
}

finermoe::TokenizerTexts read_texts(const std::string& path) {
  if (std::filesystem::is_directory(path)) {
    return finermoe::TokenizerTexts::read([&](const std::string& name) { return read_file(path + "/" + name); });
  }
  finermoe::TokenizerTexts texts;
  texts.tokenizer_json = read_file(path);
  return texts;
}

void write(const std::vector<uint32_t>& numbers) {
  std::fwrite(numbers.data(), sizeof(uint32_t), numbers.size(), stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const std::set<std::string> flags(argv + 2, argv + argc);
  auto tokenizer = finermoe::Tokenizer::parse(read_texts(argv[1]));
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str());
    return 1;
  }
  const finermoe::EncodeOptions options{.parse_special = flags.count("special") > 0,
                                        .add_special = flags.count("bare") == 0};
  std::string text;
  uint32_t length = 0;
  while (std::fread(&length, sizeof length, 1, stdin) == 1) {
    text.resize(length);
    if (std::fread(text.data(), 1, length, stdin) != length) return 1;
    std::vector<int32_t> ids;
    std::vector<uint32_t> out(1);
    auto status = (*tokenizer)->encode(text, options, [&](int32_t id, finermoe::ByteRange range) {
      ids.push_back(id);
      out.insert(out.end(),
                 {static_cast<uint32_t>(id), static_cast<uint32_t>(range.begin), static_cast<uint32_t>(range.end)});
    });
    if (!status.ok()) return 1;
    if (flags.count("decode") > 0) {
      const std::string decoded = finermoe::decode(**tokenizer, ids, true);
      write({static_cast<uint32_t>(decoded.size())});
      std::fwrite(decoded.data(), 1, decoded.size(), stdout);
    } else {
      out[0] = static_cast<uint32_t>(ids.size());
      write(out);
    }
  }
  return 0;
}
