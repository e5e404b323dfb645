// Where a command's text or token ids come from.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "handles.h"
#include "tokenizer.h"

namespace tool {

std::string read_file(const std::string& path);  // "-": standard input
// Calls `each` with every line of a file, without the line ending, and its number.
void for_each_line(const std::string& path, const std::function<void(const std::string&, size_t)>& each);
nlohmann::json parse_line(const std::string& line, size_t number);  // of a JSONL file
// "1,2,3", with commas, spaces or both.
std::vector<int32_t> parse_ids(std::string_view text, const std::string& name);
std::vector<int32_t> json_ids(const nlohmann::json& json, const std::string& name);  // of […]
// […], [[…], …] or {"ids": […]}.
std::vector<std::vector<int32_t>> parse_json_ids(std::string_view text, const std::string& name);
// The rows of ids in a .npy file, in JSON, or in a list of numbers.
std::vector<std::vector<int32_t>> read_ids_file(const std::string& path);

struct InputFlags {
  CLI::Option* text_option = nullptr;
  CLI::Option* file_option = nullptr;
  CLI::Option* ids_option = nullptr;
  CLI::Option* ids_file_option = nullptr;
  std::string text;
  std::string file;
  std::string ids;
  std::string ids_file;
  TextFlags as;

  bool holds_text() const { return text_option->count() > 0 || file_option->count() > 0; }
  bool holds_ids() const { return ids_option->count() > 0 || ids_file_option->count() > 0; }
};

// -p/--prompt, --file, --ids, --ids-file (one of them), --special and --no-special-tokens.
void add_input(CLI::App& app, InputFlags& flags);

std::string read_text(const InputFlags& flags);
// Rows of ids, as given; a text is one row. Reads standard input as text if no flag names an input.
std::vector<std::vector<int32_t>> read_rows(const InputFlags& flags, const Model& model);
// The same, for commands that take only one row.
std::vector<int32_t> read_ids(const InputFlags& flags, const Model& model);

}  // namespace tool
