// A tokenizer without tokenizer.json, as older Qwen2 checkpoints have it.
#pragma once

#include "base/status.h"
#include "text/tokenizer.h"
#include "text/tokenizer_config.h"
#include "text/tokenizer_json.h"

namespace finermoe {

// Does what transformers' Qwen2Tokenizer does with vocab.json, merges.txt and the added tokens of the other files.
// Roles that `config` does not set get the default tokens of that class.
Result<TokenizerFile> read_vocab_and_merges(const TokenizerTexts& texts, TokenizerConfig& config);

}  // namespace finermoe
