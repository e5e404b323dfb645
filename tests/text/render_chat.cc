// Chat rendering as a filter, for the Python test: render_chat TOKENIZER_JSON
// In, a JSON object per line: {"config": text of tokenizer_config.json, "file": text of chat_template.jinja (or left
// out), "messages": [{"role", "content"}], "generation"}. Out, a JSON object per line: {"text", "ids"} or {"error":
// code}.
#include <fstream>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

using Json = nlohmann::json;

namespace {

Json answer(const std::string& tokenizer_json, const Json& question) {
  finermoe::TokenizerTexts texts;
  texts.tokenizer_json = std::optional(tokenizer_json);
  texts.config = std::optional(question["config"].get<std::string>());
  if (question.contains("file")) texts.chat_template = std::optional(question["file"].get<std::string>());
  auto tokenizer = finermoe::Tokenizer::parse(texts);
  if (!tokenizer.ok()) return {{"error", tokenizer.status().code()}};
  std::vector<finermoe::ChatMessage> messages;
  for (const Json& message : question["messages"]) messages.push_back({message["role"], message["content"]});
  const finermoe::ChatEnd end = question.value("continue", false) ? finermoe::ChatEnd::continue_last
                                : question["generation"]          ? finermoe::ChatEnd::generation_prompt
                                                                  : finermoe::ChatEnd::closed;
  auto text = (*tokenizer)->render_chat(messages, end);
  auto ids = (*tokenizer)->encode_chat(messages, end);
  if (!text.ok() || !ids.ok()) return {{"error", text.status().code()}};
  return {{"text", *text}, {"ids", *ids}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1], std::ios::binary);
  const std::string json((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::string line;
  while (std::getline(std::cin, line)) std::cout << answer(json, Json::parse(line)).dump() << "\n";
  return 0;
}
