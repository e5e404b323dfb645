#include "convert/carry.h"

#include <algorithm>

namespace finermoe {
namespace {

constexpr const char* tokenizer_files[] = {
    "added_tokens.json", "chat_template.jinja",     "generation_config.json", "merges.txt",
    "tokenizer.json",    "special_tokens_map.json", "tokenizer_config.json",  "vocab.json"};

// A text that cannot be read, such as a directory in its place, is skipped: the model works without it.
void add(const std::string& name, Result<std::optional<std::string>> content, std::vector<PlannedText>& texts) {
  if (content.ok() && *content) texts.push_back({name, std::move(**content)});
}

// A single-file model chooses the names of its texts: each must be a plain file name that the writer does not use
// itself.
bool is_carried(const std::string& name) {
  return !name.empty() && name[0] != '.' && name.find('/') == name.npos && name.find('\0') == name.npos &&
         name != "config.json" && name.find(".safetensors") == name.npos;
}

}  // namespace

Result<std::vector<PlannedText>> carried_texts(const Checkpoint& source) {
  std::vector<PlannedText> texts;
  FM_ASSIGN(std::vector<std::string> names, source.text_names());
  for (const std::string& name : names) {
    if (is_carried(name)) add(name, source.text(name), texts);
  }
  return texts;
}

std::vector<PlannedText> carried_texts(const std::string& path) {
  std::vector<PlannedText> texts;
  for (const char* name : tokenizer_files) add(name, read_model_text(path, name), texts);
  return texts;
}

}  // namespace finermoe
