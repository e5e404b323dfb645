// Speed of the tokenizer on one thread: tokenizer_speed TOKENIZER_JSON TEXT_FILE
// Prints, best of five: milliseconds to open, MB/s for the whole text and for pieces of 1000 bytes, and the tokens.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iterator>
#include <limits>
#include <string>

#include "text/tokenizer.h"

namespace {

std::string read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

double best_seconds(const std::function<void()>& work) {
  double best = std::numeric_limits<double>::infinity();
  for (int i = 0; i < 5; ++i) {
    auto start = std::chrono::steady_clock::now();
    work();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  finermoe::TokenizerTexts texts;
  texts.tokenizer_json = std::optional(read(argv[1]));
  const std::string text = read(argv[2]);
  auto tokenizer = finermoe::Tokenizer::parse(texts);
  if (!tokenizer.ok()) {
    std::fprintf(stderr, "%s\n", tokenizer.status().message().c_str());
    return 1;
  }
  size_t n_tokens = 0;
  auto count = [&](int32_t, finermoe::ByteRange) { ++n_tokens; };
  auto encode = [&](size_t piece) {
    n_tokens = 0;
    for (size_t at = 0; at < text.size(); at += piece) {
      if (!(*tokenizer)->encode(std::string_view(text).substr(at, piece), {.parse_special = true}, count).ok())
        std::abort();
    }
  };
  double open = best_seconds([&] { finermoe::Tokenizer::parse(texts).ok(); });
  double pieces = best_seconds([&] { encode(1000); });
  double whole = best_seconds([&] { encode(text.size()); });
  double megabytes = static_cast<double>(text.size()) / 1e6;
  std::printf("{\"open_ms\": %.1f, \"whole_mb_s\": %.2f, \"pieces_mb_s\": %.2f, \"tokens\": %zu}\n", open * 1e3,
              megabytes / whole, megabytes / pieces, n_tokens);
  return 0;
}
