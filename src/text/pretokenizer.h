// Splits text into the words that byte-pair encoding never crosses: the Split of Qwen2.5's or Llama 3's tokenizer.json.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/status.h"

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;

namespace finermoe {

// The regular expressions that are supported, as tokenizer.json spells them. They differ in how numbers are split.
constexpr std::string_view kQwenPattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
enum class NumberWords { one_digit, three_digits };

// Matches the expression over class characters (unicode.h) instead of code points, so that PCRE2's Unicode version does
// not matter and every character is one byte. Immutable; a Matcher belongs to one thread.
class Pretokenizer {
 public:
  // Without `jit` (or if the system has none) matching is interpreted: slower, with the same results.
  static Result<Pretokenizer> create(NumberWords numbers, bool jit = true);

  class Matcher {
   public:
    static Result<Matcher> create(const Pretokenizer& pretokenizer);
    // Calls `word` with the length, in code points, of each word in order.
    Status split(std::string_view classes, FunctionRef<void(size_t length)> word) const;

   private:
    const Pretokenizer* pretokenizer_ = nullptr;
    std::shared_ptr<pcre2_real_match_data_8> data_;
    std::shared_ptr<pcre2_real_match_context_8> context_;
  };

 private:
  std::shared_ptr<pcre2_real_code_8> code_;
};

}  // namespace finermoe
