// A tokenizer without tokenizer.json, as older Qwen2 checkpoints have it.
#pragma once

#include "base/status.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace finermoe {

// What transformers' Qwen2Tokenizer makes of vocab.json, merges.txt and what the other files say of added tokens. Roles
// that `config` leaves open get the tokens that this class gives them.
Result<TokenizerFile> read_vocab_and_merges(const TokenizerTexts& texts, TokenizerConfig& config);

}  // namespace finermoe
