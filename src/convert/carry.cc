#include "convert/carry.h"

#include <algorithm>

namespace finermoe {
namespace {

constexpr const char* tokenizer_files[] = {
    "added_tokens.json", "chat_template.jinja",     "generation_config.json", "merges.txt",
    "tokenizer.json",    "special_tokens_map.json", "tokenizer_config.json",  "vocab.json"};

// A single-file model names its texts itself: a name must be a plain file name, and none that the writer uses.
bool is_carried(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == name.npos && name.find('\0') == name.npos &&
         name != "config.json" && name.find(".safetensors") == name.npos;
}

}  // namespace

Result<std::vector<PlannedText>> carried_texts(const Checkpoint& source) {
  std::vector<PlannedText> texts;
  FM_ASSIGN(std::vector<std::string> names, source.text_names());
  for (const std::string& name : names) {
    if (!is_carried(name)) continue;
    FM_ASSIGN(std::optional<std::string> content, source.text(name));
    if (content) texts.push_back({name, std::move(*content)});
  }
  return texts;
}

Result<std::vector<PlannedText>> carried_texts(const std::string& path) {
  std::vector<PlannedText> texts;
  for (const char* name : tokenizer_files) {
    FM_ASSIGN(std::optional<std::string> content, read_model_text(path, name));
    if (content) texts.push_back({name, std::move(*content)});
  }
  return texts;
}

}  // namespace finermoe
