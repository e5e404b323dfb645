// Flags by kind: a model, a count, a number, a size, a choice.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tool {

CLI::Option* add_model(CLI::App& app, std::string& path);

// Integers in decimal, or in hexadecimal after 0x.
struct Range {
  uint64_t least, most;
};
constexpr uint64_t kMostTokens = INT32_MAX;  // no model has more positions, and no vocabulary more ids
constexpr Range kTokens{1, kMostTokens}, kTokensOrNone{0, kMostTokens}, kAnyNumber{0, UINT64_MAX}, kDrafts{0, 64};
uint64_t parse_count(const std::string& flag, const std::string& text, Range range);  // throws Failure
double parse_real(const std::string& flag, const std::string& text);                  // finite; throws Failure

template <class T>
struct NumberOf {
  using Type = T;
};
template <class T>
struct NumberOf<std::optional<T>> {
  using Type = T;
};

// `value` is a number, or an optional one.
template <class Count>
CLI::Option* add_count(CLI::App& app, const std::string& name, Count& value, Range range,
                       const std::string& description) {
  const auto parse = [&value, name, range](const std::string& text) {
    value = static_cast<typename NumberOf<Count>::Type>(parse_count(name, text, range));
  };
  return app.add_option_function<std::string>(name, parse, description)->type_name("N");
}
CLI::Option* add_real(CLI::App& app, const std::string& name, std::optional<double>& value,
                      const std::string& description);
CLI::Option* add_size(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& description);
// --draft and --draft-tokens: a model that drafts, and how many tokens for a pass at most.
struct DraftFlags {
  std::string model;  // its path; empty: none
  size_t n = 8;
};
void add_draft(CLI::App& app, DraftFlags& flags, const std::string& group, const std::string& description);
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& description);

}  // namespace tool
