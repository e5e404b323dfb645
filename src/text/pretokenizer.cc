#include "text/pretokenizer.h"

#include <cstdint>
#include <new>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace finermoe {
namespace {

// kQwenPattern, alternative by alternative, except for numbers. White space is [ 89], letters [1-5], numbers [06].
constexpr std::string_view kClassPattern =
    "'(?:2|34|55)"
    "|[^90-6]?[1-5]+"
    "| ?[./']+9*"
    "|[ 89]*9+"
    "|[ 89]+(?![^ 89])"
    "|[ 89]+";
constexpr std::string_view kNumbers = "|[06]", kUpToThree = "{1,3}";  // no other alternative begins with a number

// Running out of memory is not a bug; compiling and matching have different codes for it.
Status pcre2_error(int error) {
  if (error == PCRE2_ERROR_NOMEMORY || error == PCRE2_ERROR_HEAP_FAILED) throw std::bad_alloc();
  PCRE2_UCHAR8 text[256];
  pcre2_get_error_message_8(error, text, sizeof text);
  return Status(FINERMOE_ERROR_INTERNAL,
                format_text("PCRE2 fails on the word pattern: ", reinterpret_cast<const char*>(text)));
}

}  // namespace

Result<Pretokenizer> Pretokenizer::create(NumberWords numbers, bool jit) {
  Pretokenizer made;
  const std::string pattern =
      format_text(kClassPattern, kNumbers, numbers == NumberWords::three_digits ? kUpToThree : "");
  int error = 0;
  PCRE2_SIZE offset = 0;
  made.code_.reset(pcre2_compile_8(reinterpret_cast<PCRE2_SPTR8>(pattern.data()), pattern.size(), PCRE2_ANCHORED,
                                   &error, &offset, nullptr),
                   pcre2_code_free_8);
  if (!made.code_) return pcre2_error(error);
  if (jit) pcre2_jit_compile_8(made.code_.get(), PCRE2_JIT_COMPLETE);  // may fail: not every system allows JIT
  return made;
}

Result<Pretokenizer::Matcher> Pretokenizer::Matcher::create(const Pretokenizer& pretokenizer) {
  Matcher made;
  made.pretokenizer_ = &pretokenizer;
  made.data_.reset(pcre2_match_data_create_8(1, nullptr), pcre2_match_data_free_8);
  made.context_.reset(pcre2_match_context_create_8(nullptr), pcre2_match_context_free_8);
  if (!made.data_ || !made.context_) throw std::bad_alloc();
  // The expression takes linear time and no stack; the limits would only refuse long runs of white space.
  pcre2_set_match_limit_8(made.context_.get(), UINT32_MAX);
  pcre2_set_depth_limit_8(made.context_.get(), UINT32_MAX);
  pcre2_set_heap_limit_8(made.context_.get(), UINT32_MAX);
  return made;
}

Status Pretokenizer::Matcher::split(std::string_view classes, FunctionRef<void(size_t length)> word) const {
  auto subject = reinterpret_cast<PCRE2_SPTR8>(classes.data());
  const size_t* span = pcre2_get_ovector_pointer_8(data_.get());
  for (size_t at = 0; at < classes.size(); at = span[1]) {
    int found = pcre2_match_8(pretokenizer_->code_.get(), subject, classes.size(), at, 0, data_.get(), context_.get());
    if (found < 1) return pcre2_error(found);
    word(span[1] - at);
  }
  return {};
}

}  // namespace finermoe
