// finermoe tokenize: text to token ids.
#include "commands.h"
#include "failure.h"
#include "handles.h"
#include "input.h"
#include "library.h"
#include "printing.h"
#include "tokenizer.h"

namespace tool {

namespace {

struct TokenizeFlags {
  std::string model, text, file, jsonl;
  CLI::Option* text_option = nullptr;
  CLI::Option* file_option = nullptr;
  TextFlags as;
  bool json = false, offsets = false, count = false;
};

void declare(CLI::App& app, TokenizeFlags& flags) {
  app.add_option("MODEL", flags.model, "model directory, a directory with tokenizer.json, or that file")
      ->type_name("")
      ->required();
  flags.text_option = app.add_option("TEXT", flags.text, "the text (default: standard input)")->type_name("");
  flags.file_option = app.add_option("--file", flags.file, "a file with the text, byte for byte; - is standard input")
                          ->type_name("FILE")
                          ->excludes(flags.text_option);
  CLI::Option* count = app.add_flag("--count", flags.count, "only how many ids there are");
  CLI::Option* offsets =
      app.add_flag("--offsets", flags.offsets, "where each token begins and ends, in bytes")->excludes(count);
  app.add_option("--jsonl", flags.jsonl, "a file with a JSON string a line; gives {\"ids\":[...]} a line")
      ->type_name("FILE")
      ->excludes(flags.text_option)
      ->excludes(flags.file_option)
      ->excludes(count)
      ->excludes(offsets);
  app.add_flag("--json", flags.json, "a JSON object: {\"ids\":[...]}");
  add_text_flags(app, flags.as);
}

std::string join(const std::vector<int32_t>& ids) {
  std::string text;
  for (const int32_t id : ids) {
    if (!text.empty()) text += ',';
    text += std::to_string(id);
  }
  return text;
}

void print_offsets(const TokenizeFlags& flags, const Tokenizer& tokenizer, const std::string& text) {
  std::vector<uint64_t> offsets;
  const std::vector<int32_t> ids = encode(tokenizer, text, flags.as, &offsets);
  Json pairs = Json::array();
  std::string lines;
  for (size_t i = 0; i < ids.size(); ++i) {
    const uint64_t begin = offsets[2 * i], end = offsets[2 * i + 1];
    pairs.push_back({begin, end});
    lines += std::to_string(ids[i]) + "\t" + std::to_string(begin) + "\t" + std::to_string(end) + "\t" +
             dump(text.substr(begin, end - begin));
  }
  print(flags.json ? dump({{"ids", ids}, {"offsets", pairs}}) : lines);
}

int run_tokenize(const TokenizeFlags& flags) {
  Tokenizer tokenizer;
  call(finermoe_tokenizer_open, flags.model.c_str(), tokenizer.out());
  if (!flags.jsonl.empty()) {
    for_each_line(flags.jsonl, [&](const std::string& line, size_t number) {
      if (line.empty()) return;
      const nlohmann::json json = parse_line(line, number);
      if (!json.is_string()) throw Failure(kError, "line " + std::to_string(number) + ": expected a JSON string");
      print(dump({{"ids", encode(tokenizer, json.get_ref<const std::string&>(), flags.as)}}));
    });
    return kOk;
  }
  const std::string text =
      flags.text_option->count() > 0 ? flags.text : read_file(flags.file_option->count() > 0 ? flags.file : "-");
  if (flags.count) {
    size_t count = 0;
    call(finermoe_tokenizer_count, tokenizer.get(), text.data(), text.size(), flags.as.of_library(), &count);
    print(flags.json ? dump({{"count", count}}) : std::to_string(count) + "\n");
  } else if (flags.offsets) {
    print_offsets(flags, tokenizer, text);
  } else {
    const std::vector<int32_t> ids = encode(tokenizer, text, flags.as);
    print(flags.json ? dump({{"ids", ids}}) : join(ids) + "\n");
  }
  return kOk;
}

}  // namespace

void add_tokenize(CommandLine& line) {
  add_command<TokenizeFlags>(line, "tokenize", "text to token ids",
                             "  finermoe tokenize MODEL 'Hello, world'\n"
                             "  finermoe tokenize MODEL --file book.txt --count\n"
                             "  finermoe tokenize MODEL --json --special '<|im_start|>user' --offsets\n"
                             "  finermoe tokenize MODEL --jsonl lines.jsonl > ids.jsonl\n",
                             declare, run_tokenize);
}

}  // namespace tool
