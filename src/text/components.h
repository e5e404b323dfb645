// The components of tokenizer.json: which are supported, and what they are mapped to.
#pragma once

#include <cstdint>
#include <vector>

#include "base/json.h"
#include "base/status.h"
#include "text/pretokenizer.h"

namespace finermoe {

struct Components {
  bool nfc = false;
  NumberWords numbers = NumberWords::one_digit;
  bool ignore_merges = false;          // a word that is a token is not split and merged
  std::vector<int32_t> before, after;  // the special tokens that the post-processor adds around a text
};

// FINERMOE_ERROR_TOKENIZER_COMPONENT names what is not supported. `root` is the whole document.
Result<Components> read_components(const Json& root);

}  // namespace finermoe
