#include "text/tokenizer_config.h"

#include "text/json_values.h"

namespace finermoe {
namespace {

Result<Json> read_object(const TokenizerTexts::Text& source, const char* name) {
  FM_ASSIGN(const auto text, source);
  if (!text) return Json::object();
  FM_ASSIGN(Json root, parse_json(*text, name, FINERMOE_ERROR_TOKENIZER_MALFORMED));
  if (!root.is_object()) return malformed_tokenizer(format_text(name, " is not an object"));
  return root;
}

}  // namespace

Result<TokenizerConfig> read_tokenizer_config(const TokenizerTexts& texts) {
  TokenizerConfig config;
  FM_ASSIGN(config.root, read_object(texts.config, "tokenizer_config.json"));
  if (config.root.contains("added_tokens_decoder")) return config;
  auto map = read_object(texts.special_tokens_map, "special_tokens_map.json");
  config.roles = map.status();
  if (map.ok()) config.special_tokens_map = std::move(*map);
  return config;
}

std::optional<std::string> TokenizerConfig::token(const char* role) const {
  const Json& value = special_tokens_map.contains(role) ? special_tokens_map[role] : member(root, role);
  const Json& content = value.is_object() ? member(value, "content") : value;
  return content.is_string() ? std::optional(content.get<std::string>()) : std::nullopt;
}

Result<std::optional<std::string>> chat_template_of(const TokenizerConfig& config) {
  const Json& chat = member(config.root, "chat_template");
  if (chat.is_null()) return std::optional<std::string>();
  const Json* text = &chat;
  if (chat.is_object()) text = &member(chat, "default");
  if (chat.is_array()) {  // several, by name; the last of equal names counts
    text = &member(Json::object(), "");
    for (const Json& entry : chat) {
      if (is(member(entry, "name"), "default")) text = &member(entry, "template");
    }
  }
  if (text->is_string()) return std::optional(text->get<std::string>());
  std::string expected = "text, or a list with one named \"default\"", found = show(chat);
  std::string message = format_text("tokenizer_config.json: chat_template is ", found, ", expected ", expected);
  return Status(FINERMOE_ERROR_CHAT_TEMPLATE, std::move(message), std::move(expected), std::move(found));
}

std::optional<int32_t> bos_of_model(const TokenizerTexts::Text& model_config) {
  if (!model_config.ok() || !*model_config) return {};
  const Result<Json> root = parse_json(**model_config, "config.json", FINERMOE_ERROR_CONFIG_MALFORMED);
  const Json* id = root.ok() && root->is_object() ? root->find("bos_token_id") : nullptr;
  if (id == nullptr || !id->is_number_unsigned() || id->get<uint64_t>() > INT32_MAX) return {};
  return id->get<int32_t>();
}

}  // namespace finermoe
