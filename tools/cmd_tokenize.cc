// finermoe tokenize, finermoe detokenize: text to token ids and back.
#include "flags.h"
#include "input.h"

namespace tool {

namespace {

struct TokenizeFlags {
  std::string model, text, file, jsonl;
  CLI::Option* text_option = nullptr;
  CLI::Option* file_option = nullptr;
  TextFlags as;
  bool json = false, offsets = false, count = false;
};

void declare_tokenize(CLI::App& app, TokenizeFlags& flags) {
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

struct DetokenizeFlags {
  std::string model, ids, file, jsonl;
  std::vector<std::string> arguments;
  bool json = false, show_special = false;
};

void declare_detokenize(CLI::App& app, DetokenizeFlags& flags) {
  app.add_option("MODEL", flags.model, "model directory, a directory with tokenizer.json, or that file")
      ->type_name("")
      ->required();
  CLI::Option* const sources[] = {
      app.add_option("IDS", flags.arguments, "token ids: 1,2,3 or 1 2 3 (default: standard input)")->type_name(""),
      app.add_option("--ids", flags.ids, "the same as a flag")->type_name("IDS"),
      app.add_option("--file,--ids-file", flags.file, "a file with ids: .npy, JSON, or numbers; - is standard input")
          ->type_name("FILE"),
      app.add_option("--jsonl", flags.jsonl, "a file with [...] or {\"ids\":[...]} a line; gives a JSON string a line")
          ->type_name("FILE")};
  for (CLI::Option* a : sources) {
    for (CLI::Option* b : sources) {
      if (a != b) a->excludes(b);
    }
  }
  app.add_flag("--json", flags.json, "a JSON object: {\"text\":\"...\"}");
  app.add_flag("--show-special", flags.show_special, "special tokens are written out instead of left out");
}

std::string decode(const Tokenizer& tokenizer, const std::vector<int32_t>& ids, bool show_special) {
  const uint32_t flags = show_special ? FINERMOE_TEXT_SHOW_SPECIAL : FINERMOE_TEXT_DEFAULT;
  const std::vector<char> text = fetch<char>(finermoe_tokenizer_decode, tokenizer.get(), ids.data(), ids.size(), flags);
  return {text.begin(), text.end()};
}

std::vector<int32_t> detokenize_ids(const DetokenizeFlags& flags) {
  if (!flags.ids.empty()) return parse_ids(flags.ids, "--ids");
  if (!flags.arguments.empty()) {
    std::string joined;
    for (const std::string& argument : flags.arguments) joined += argument + " ";
    return parse_ids(joined, "IDS");
  }
  const auto rows = read_ids_file(flags.file.empty() ? "-" : flags.file);
  if (rows.size() > 1) throw Failure(kError, "expected one row of token ids, found " + std::to_string(rows.size()));
  return rows.empty() ? std::vector<int32_t>() : rows[0];
}

int run_detokenize(const DetokenizeFlags& flags) {
  Tokenizer tokenizer;
  call(finermoe_tokenizer_open, flags.model.c_str(), tokenizer.out());
  if (!flags.jsonl.empty()) {
    for_each_line(flags.jsonl, [&](const std::string& line, size_t number) {
      if (line.empty()) return;
      const auto rows = parse_json_ids(line, "line " + std::to_string(number));
      if (rows.size() != 1) throw Failure(kError, "line " + std::to_string(number) + ": expected one row of ids");
      print(dump(decode(tokenizer, rows[0], flags.show_special)));
    });
    return kOk;
  }
  const std::string text = decode(tokenizer, detokenize_ids(flags), flags.show_special);
  print(flags.json ? dump({{"text", text}}) : text);
  return kOk;
}

}  // namespace

void add_tokenize(CommandLine& line) {
  add_command<TokenizeFlags>(line, "tokenize", "text to token ids",
                             "  finermoe tokenize MODEL 'Hello, world'\n"
                             "  finermoe tokenize MODEL --file book.txt --count\n"
                             "  finermoe tokenize MODEL --json --special '<|im_start|>user' --offsets\n"
                             "  finermoe tokenize MODEL --jsonl lines.jsonl > ids.jsonl\n",
                             declare_tokenize, run_tokenize);
}

void add_detokenize(CommandLine& line) {
  add_command<DetokenizeFlags>(line, "detokenize", "token ids to text",
                               "  finermoe detokenize MODEL 32,3858,261\n"
                               "  finermoe tokenize MODEL 'Hello, world' | finermoe detokenize MODEL\n"
                               "  finermoe detokenize MODEL --jsonl ids.jsonl\n",
                               declare_detokenize, run_detokenize);
}

}  // namespace tool
