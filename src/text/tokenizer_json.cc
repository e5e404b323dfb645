#include "text/tokenizer_json.h"

#include "text/json_reader.h"
#include "text/json_values.h"

namespace finermoe {
namespace {

constexpr size_t kMaxAddedBytes = 1024;  // bounds how far matching looks ahead from any position

}  // namespace

Result<AddedToken> read_added_token(std::string_view file, const Json& id, const Json& entry) {
  AddedToken token;
  const Json& content = member(entry, "content");
  if (!id.is_number_unsigned() || id.get<uint64_t>() > static_cast<uint64_t>(kMaxTokenId)) {
    return malformed_tokenizer(format_text(file, ": the id of added token ", show(content), " is ", show(id),
                                           ", expected 0 to ", kMaxTokenId));
  }
  token.id = static_cast<int32_t>(id.get<uint64_t>());
  if (!content.is_string() || content.get_ref<const std::string&>().empty() ||
      content.get_ref<const std::string&>().size() > kMaxAddedBytes) {
    return malformed_tokenizer(format_text(file, ": the content of added token ", token.id, " is ", show(content),
                                           ", expected 1 to ", kMaxAddedBytes, " bytes of text"));
  }
  token.content = content.get<std::string>();
  token.special = member(entry, "special") == true;
  // As in Hugging Face: the default is normalized, unless the token is special.
  token.normalized = entry.contains("normalized") ? member(entry, "normalized") == true : !token.special;
  token.single_word = member(entry, "single_word") == true;
  token.lstrip = member(entry, "lstrip") == true;
  token.rstrip = member(entry, "rstrip") == true;
  return token;
}

Result<TokenizerFile> read_tokenizer_json(std::string_view text) {
  TokenizerFile file;
  FM_ASSIGN(Json root, read_tokenizer_document(text, file));
  if (!root.is_object()) return malformed_tokenizer("tokenizer.json is not an object");
  FM_ASSIGN(file.components, read_components(root));
  const Json& model = member(root, "model");
  if (!member(model, "vocab").is_object() || file.tokens.size() == 0) {
    return malformed_tokenizer("tokenizer.json: the model has no vocab");
  }
  if (!member(model, "merges").is_array()) {
    return Status(FINERMOE_ERROR_TOKENIZER_MERGES, "tokenizer.json: the model has no merges");
  }
  const Json& added = member(root, "added_tokens");
  if (!added.is_null() && !added.is_array()) {
    return malformed_tokenizer("tokenizer.json: added_tokens is not an array");
  }
  for (const Json& entry : added) {
    FM_ASSIGN(AddedToken token, read_added_token("tokenizer.json", member(entry, "id"), entry));
    file.added.push_back(std::move(token));
  }
  return file;
}

}  // namespace finermoe
