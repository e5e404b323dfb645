#include "text/tokenizer_json.h"

#include "text/json_reader.h"
#include "text/pretokenizer.h"
#include "text/unicode.h"

namespace finermoe {
namespace {

constexpr size_t kMaxAddedBytes = 1024;  // bounds what matching looks at from any one place of a text

Status malformed(std::string message) { return Status(FINERMOE_ERROR_TOKENIZER_MALFORMED, std::move(message)); }

Status unsupported(std::string_view component, std::string expected, std::string found) {
  std::string message = cat("tokenizer.json: ", component, " is ", found, "; supported: ", expected);
  return Status(FINERMOE_ERROR_TOKENIZER_COMPONENT, std::move(message), std::move(expected), std::move(found));
}

// A value as it is shown in messages; a component is shown by its name.
std::string show(const Json& value) {
  const Json& shown = value.is_object() && value.contains("type") ? value["type"] : value;
  std::string text = shown.dump(-1, ' ', true, Json::error_handler_t::replace);
  return text.size() > 200 ? text.substr(0, 200) + "..." : text;
}

const Json& member(const Json& object, const char* key) {
  static const Json kNull;
  if (!object.is_object()) return kNull;
  auto found = object.find(key);
  return found == object.end() ? kNull : *found;
}

bool is(const Json& value, std::string_view text) {
  return value.is_string() && value.get_ref<const std::string&>() == text;
}
bool is_unset(const Json& value) { return value.is_null() || value == false || is(value, ""); }

Status check_pre_tokenizer(const Json& sequence) {
  const Json& parts = member(sequence, "pretokenizers");
  if (!is(member(sequence, "type"), "Sequence") || !parts.is_array() || parts.size() != 2) {
    return unsupported("pre_tokenizer", "a Sequence of Split and ByteLevel", show(sequence));
  }
  const Json &split = parts[0], &bytes = parts[1];
  if (!is(member(split, "type"), "Split")) return unsupported("pre_tokenizer 0", "Split", show(split));
  const Json& pattern = member(split, "pattern");
  if (!is(member(pattern, "Regex"), kQwenPattern)) {
    return unsupported("the pattern of Split", std::string(kQwenPattern), show(pattern));
  }
  if (!is(member(split, "behavior"), "Isolated") || member(split, "invert") != false) {
    return unsupported("the behavior of Split", "\"Isolated\", not inverted", show(member(split, "behavior")));
  }
  if (!is(member(bytes, "type"), "ByteLevel")) return unsupported("pre_tokenizer 1", "ByteLevel", show(bytes));
  for (const char* flag : {"add_prefix_space", "use_regex"}) {
    if (member(bytes, flag) != false) {
      return unsupported(cat(flag, " of the pre_tokenizer ByteLevel"), "false", show(member(bytes, flag)));
    }
  }
  return {};
}

Status check_components(const Json& root) {
  for (const char* name : {"truncation", "padding"}) {
    if (!member(root, name).is_null()) return unsupported(name, "null", show(member(root, name)));
  }
  const Json& normalizer = member(root, "normalizer");
  if (!is(member(normalizer, "type"), "NFC")) return unsupported("normalizer", "NFC", show(normalizer));
  FM_TRY(check_pre_tokenizer(member(root, "pre_tokenizer")));
  const Json& post = member(root, "post_processor");  // ByteLevel's changes offsets only, not ids
  if (!post.is_null() && !is(member(post, "type"), "ByteLevel")) {
    return unsupported("post_processor", "null or ByteLevel", show(post));
  }
  const Json& decoder = member(root, "decoder");
  if (!is(member(decoder, "type"), "ByteLevel")) return unsupported("decoder", "ByteLevel", show(decoder));
  const Json& model = member(root, "model");
  if (!is(member(model, "type"), "BPE")) return unsupported("model", "BPE", show(model));
  for (const char* option : {"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk",
                             "byte_fallback", "ignore_merges"}) {
    const Json& value = member(model, option);
    if (!is_unset(value) && !(value.is_number() && value == 0)) {
      return unsupported(cat("the model's ", option), "none", show(value));
    }
  }
  return {};
}

Result<AddedToken> read_added_token(const Json& entry) {
  AddedToken token;
  const Json &id = member(entry, "id"), &content = member(entry, "content");
  if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
    return malformed(cat("the id of added token ", show(content), " is ", show(id), ", expected 0 to ", kMaxTokenId));
  }
  token.id = static_cast<int32_t>(id.get<uint64_t>());
  if (!content.is_string() || content.get_ref<const std::string&>().empty() ||
      content.get_ref<const std::string&>().size() > kMaxAddedBytes) {
    return malformed(cat("the content of added token ", token.id, " is ", show(content), ", expected 1 to ",
                         kMaxAddedBytes, " bytes of text"));
  }
  token.content = content.get<std::string>();
  for (const char* flag : {"single_word", "lstrip", "rstrip"}) {
    if (!is_unset(member(entry, flag)))
      return unsupported(cat(flag, " of added token ", show(content)), "false", "true");
  }
  token.special = member(entry, "special") == true;
  // As Hugging Face: what is not said is normalised, unless the token is special.
  token.normalized = entry.contains("normalized") ? member(entry, "normalized") == true : !token.special;
  return token;
}

}  // namespace

Result<TokenizerFile> read_tokenizer_json(std::string_view text) {
  TokenizerFile file;
  FM_ASSIGN(Json root, read_tokenizer_document(text, file));
  if (!root.is_object()) return malformed("tokenizer.json is not an object");
  FM_TRY(check_components(root));
  const Json& model = member(root, "model");
  if (!member(model, "vocab").is_object() || file.tokens.size() == 0) {
    return malformed("tokenizer.json: the model has no vocab");
  }
  if (!member(model, "merges").is_array()) {
    return Status(FINERMOE_ERROR_TOKENIZER_MERGES, "tokenizer.json: the model has no merges");
  }
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) return malformed("tokenizer.json: added_tokens is not an array");
  for (const Json& entry : added) {
    FM_ASSIGN(AddedToken token, read_added_token(entry));
    file.added.push_back(std::move(token));
  }
  return file;
}

Result<TokenizerConfig> read_tokenizer_config(std::string_view text) {
  TokenizerConfig config;
  if (text.empty()) return config;
  FM_ASSIGN(Json root, parse_json(text, "tokenizer_config.json", FINERMOE_ERROR_TOKENIZER_MALFORMED));
  if (!root.is_object()) return malformed("tokenizer_config.json is not an object");
  auto token = [&](const char* key) -> std::optional<std::string> {
    const Json& value = member(root, key);
    const Json& content = value.is_object() ? member(value, "content") : value;
    return content.is_string() ? std::optional(content.get<std::string>()) : std::nullopt;
  };
  config.bos_token = token("bos_token");
  config.eos_token = token("eos_token");
  config.pad_token = token("pad_token");
  const Json& chat = member(root, "chat_template");
  if (chat.is_string()) config.chat_template = chat.get<std::string>();
  if (chat.is_array()) {  // several, by name
    for (const Json& entry : chat) {
      if (is(member(entry, "name"), "default") && member(entry, "template").is_string()) {
        config.chat_template = member(entry, "template").get<std::string>();
      }
    }
  }
  return config;
}

}  // namespace finermoe
