// tokenizer_config.json and special_tokens_map.json: which tokens have a role, and the chat template.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/json.h"
#include "base/status.h"
#include "text/tokenizer.h"

namespace finermoe {

struct TokenizerConfig {
  Json root = Json::object();                // of tokenizer_config.json
  Json special_tokens_map = Json::object();  // read only if tokenizer_config.json has no added_tokens_decoder
  Status roles;                              // or why special_tokens_map.json cannot be used

  // The token of a role such as "eos_token"; nullopt if none is named.
  std::optional<std::string> token(const char* role) const;
};

Result<TokenizerConfig> read_tokenizer_config(const TokenizerTexts& texts);
// nullopt if there is none. FINERMOE_ERROR_CHAT_TEMPLATE if chat_template is neither text nor a list with a default.
Result<std::optional<std::string>> chat_template_of(const TokenizerConfig& config);

// bos_token_id of a config.json; nullopt if there is none. Errors in the file are not reported here.
std::optional<int32_t> bos_of_model(const TokenizerTexts::Text& model_config);

}  // namespace finermoe
