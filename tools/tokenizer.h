// A model's tokenizer, and how a text becomes ids.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "handles.h"

namespace tool {

// The model's own tokenizer; empty if it has no usable one, and then `fault` says what is wrong with the one it has.
Tokenizer find_tokenizer(const Model& model, std::string* fault = nullptr);
// The model's tokenizer; throws an error if it has none.
Tokenizer need_tokenizer(const Model& model);

// How a text becomes ids.
struct TextFlags {
  bool special = false, no_special_tokens = false;

  uint32_t of_library() const;  // FINERMOE_TEXT_…
};
// --special and --no-special-tokens.
void add_text_flags(CLI::App& app, TextFlags& flags, const std::string& group = "Options");

std::vector<int32_t> encode(const Tokenizer& tokenizer, std::string_view text, const TextFlags& flags,
                            std::vector<uint64_t>* offsets = nullptr);

}  // namespace tool
