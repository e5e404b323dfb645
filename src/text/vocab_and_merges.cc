#include "text/vocab_and_merges.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "text/json_reader.h"
#include "text/json_values.h"

namespace finermoe {
namespace {

constexpr const char* kRoles[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                  "pad_token", "cls_token", "mask_token"};  // in the order in which ids are assigned

Status check_config(const Json& root) {
  const Json& type = member(root, "tokenizer_class");
  if (!type.is_null() && !is(type, "Qwen2Tokenizer") && !is(type, "Qwen2TokenizerFast")) {
    return unsupported_component("tokenizer_config.json: tokenizer_class, without tokenizer.json,",
                                 "Qwen2Tokenizer or Qwen2TokenizerFast", show(type));
  }
  const Json& prefix = member(root, "add_prefix_space");
  if (prefix.is_null() || prefix == false) return {};
  return unsupported_component("tokenizer_config.json: add_prefix_space", "false", show(prefix));
}

// One pair of tokens per line, by rank; "#version" and empty lines are skipped.
Status read_merges(std::string_view text, StringList& merges) {
  for (size_t line_number = 1; !text.empty(); ++line_number) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const size_t space = line.find(' ');
    if (space == line.npos || line.find(' ', space + 1) != line.npos) {
      return Status(FINERMOE_ERROR_TOKENIZER_MERGES,
                    format_text("merges.txt: line ", line_number, " is not two tokens and a space between them"));
    }
    merges.add(line.substr(0, space));
    merges.add(line.substr(space + 1));
  }
  return {};
}

// Collects the added tokens: first those with an id, then those that have only a name.
class Added {
 public:
  explicit Added(TokenizerFile& file) : file_(file) {
    for (size_t i = 0; i < file.ids.size(); ++i) id_of_.emplace(file.tokens[i], file.ids[i]);
    for (int32_t id : file.ids) next_ = std::max(next_, id + 1);
  }

  // {"151643": {"content": "<|endoftext|>", …}}
  Status read_decoder(const Json& decoder) {
    for (const auto& [key, entry] : decoder.items()) {
      int32_t id = -1;
      const char* end = key.data() + key.size();
      const auto [stop, error] = std::from_chars(key.data(), end, id);
      const bool is_number = error == std::errc() && stop == end;
      FM_ASSIGN(AddedToken token, read_added_token("tokenizer_config.json", is_number ? number(id) : Json(key), entry));
      add(std::move(token));
    }
    return {};
  }

  // {"<|endoftext|>": 151643}
  Status read_list(const Json& list) {
    for (const auto& [content, id] : list.items()) {
      FM_ASSIGN(AddedToken token, read_added_token("added_tokens.json", id, Json::object({{"content", content}})));
      add(std::move(token));
    }
    return {};
  }

  int32_t id_of(const std::string& content) const { return id_of_.at(content); }  // of one that was added by name

  // Makes the token special; one that has no id yet gets the next.
  Status name(const std::string& content) {
    int32_t id = next_;
    if (auto known = id_of_.find(content); known != id_of_.end()) id = known->second;
    const Json entry = Json::object({{"content", content}, {"special", true}});
    FM_ASSIGN(AddedToken token, read_added_token("tokenizer_config.json", number(id), entry));
    if (auto place = place_of_.find(content); place != place_of_.end()) {
      file_.added[place->second] = std::move(token);
    } else {
      add(std::move(token));
    }
    return {};
  }

 private:
  static Json number(int32_t id) { return id < 0 ? Json(id) : Json(static_cast<uint64_t>(id)); }

  void add(AddedToken token) {
    next_ = std::max(next_, token.id + 1);
    place_of_.emplace(token.content, file_.added.size());
    id_of_.emplace(token.content, token.id);
    file_.added.push_back(std::move(token));
  }

  TokenizerFile& file_;
  std::unordered_map<std::string, int32_t> id_of_;    // of the vocabulary and of added tokens
  std::unordered_map<std::string, size_t> place_of_;  // in file_.added
  int32_t next_ = 0;
};

// additional_special_tokens, or extra_special_tokens as transformers 5 names it: a list, or tokens by name.
Status name_extra(const TokenizerConfig& config, Added& added) {
  for (const Json* source : {&config.root, &config.special_tokens_map}) {
    for (const char* key : {"extra_special_tokens", "additional_special_tokens"}) {
      for (const Json& token : member(*source, key)) {
        const Json& content = token.is_object() ? member(token, "content") : token;
        if (content.is_string()) FM_TRY(added.name(content.get_ref<const std::string&>()));
      }
    }
  }
  return {};
}

void set_defaults(TokenizerConfig& config) {
  for (const char* role : {"eos_token", "unk_token", "pad_token"}) {
    if (!config.special_tokens_map.contains(role) && !config.root.contains(role)) config.root[role] = "<|endoftext|>";
  }
}

// add_bos_token and add_eos_token count only here: in tokenizer.json the post-processor decides.
void add_around(const TokenizerConfig& config, const Added& added, Components& into) {
  auto id_if = [&](const char* flag, const char* role, std::vector<int32_t>& ids) {
    const std::optional<std::string> token = config.token(role);
    if (token && member(config.root, flag) == true) ids.push_back(added.id_of(*token));
  };
  id_if("add_bos_token", "bos_token", into.before);
  id_if("add_eos_token", "eos_token", into.after);
}

}  // namespace

Result<TokenizerFile> read_vocab_and_merges(const TokenizerTexts& texts, TokenizerConfig& config) {
  FM_TRY(check_config(config.root));
  set_defaults(config);
  FM_ASSIGN(const auto vocab, texts.vocab_json);
  FM_ASSIGN(const auto merges, texts.merges);
  if (!vocab || !merges) return Status(FINERMOE_ERROR_TOKENIZER_MERGES, "vocab.json without merges.txt");
  TokenizerFile file;
  file.name = "vocab.json and merges.txt";
  file.components.nfc = true;
  FM_TRY(read_vocabulary(*vocab, file));
  FM_TRY(read_merges(*merges, file.merges));
  Added added(file);
  if (const Json& decoder = member(config.root, "added_tokens_decoder"); !decoder.is_null()) {
    FM_TRY(added.read_decoder(decoder));
  } else {
    FM_ASSIGN(const auto list, texts.added_tokens);
    FM_ASSIGN(const Json root,
              parse_json(list.value_or("{}"), "added_tokens.json", FINERMOE_ERROR_TOKENIZER_MALFORMED));
    FM_TRY(added.read_list(root));
  }
  for (const char* role : kRoles) {
    if (const std::optional<std::string> token = config.token(role)) FM_TRY(added.name(*token));
  }
  FM_TRY(name_extra(config, added));
  add_around(config, added, file.components);
  return file;
}

}  // namespace finermoe
