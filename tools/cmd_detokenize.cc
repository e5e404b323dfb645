// finermoe detokenize: token ids to text.
#include "commands.h"
#include "failure.h"
#include "handles.h"
#include "input.h"
#include "library.h"
#include "printing.h"

namespace tool {

namespace {

struct DetokenizeFlags {
  std::string model, ids, file, jsonl;
  std::vector<std::string> arguments;
  bool json = false, show_special = false;
};

void declare(CLI::App& app, DetokenizeFlags& flags) {
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

void add_detokenize(CommandLine& line) {
  add_command<DetokenizeFlags>(line, "detokenize", "token ids to text",
                               "  finermoe detokenize MODEL 32,3858,261\n"
                               "  finermoe tokenize MODEL 'Hello, world' | finermoe detokenize MODEL\n"
                               "  finermoe detokenize MODEL --jsonl ids.jsonl\n",
                               declare, run_detokenize);
}

}  // namespace tool
