#include "input.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "failure.h"
#include "interrupt.h"
#include "npy.h"
#include "printing.h"

namespace tool {

std::string read_file(const std::string& path) {
  const bool standard = path == "-";
  const std::string name = standard ? "standard input" : path;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> owned(standard ? nullptr : std::fopen(path.c_str(), "rb"),
                                                        std::fclose);
  std::FILE* file = standard ? stdin : owned.get();
  if (file == nullptr) throw Failure(kError, "cannot open " + name + ": " + std::strerror(errno));
  std::string bytes;
  char chunk[1 << 16];
  while (const size_t n = std::fread(chunk, 1, sizeof chunk, file)) bytes.append(chunk, n);
  if (std::ferror(file)) throw_if_interrupted();
  if (std::ferror(file)) throw Failure(kError, "cannot read " + name + ": " + std::strerror(errno));
  return bytes;
}

void for_each_line(const std::string& path, const std::function<void(const std::string&, size_t)>& each) {
  const std::string name = path == "-" ? "standard input" : path;
  std::unique_ptr<std::FILE, int (*)(std::FILE*)> owned(path == "-" ? nullptr : std::fopen(path.c_str(), "rb"),
                                                        std::fclose);
  std::FILE* file = path == "-" ? stdin : owned.get();
  if (file == nullptr) throw Failure(kError, "cannot open " + name + ": " + std::strerror(errno));
  char* buffer = nullptr;
  size_t capacity = 0;
  const std::unique_ptr<char*, void (*)(char**)> release(&buffer, [](char** text) { std::free(*text); });
  size_t number = 0;
  for (ssize_t length = 0; (length = getline(&buffer, &capacity, file)) >= 0;) {
    std::string line(buffer, static_cast<size_t>(length));
    while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
    each(line, ++number);
  }
  if (std::ferror(file)) throw_if_interrupted();
  if (std::ferror(file)) throw Failure(kError, "cannot read " + name + ": " + std::strerror(errno));
}

nlohmann::json parse_line(const std::string& line, size_t number) {
  nlohmann::json json = nlohmann::json::parse(line, nullptr, false);
  if (json.is_discarded()) throw Failure(kError, "line " + std::to_string(number) + ": not JSON");
  return json;
}

std::vector<int32_t> parse_ids(std::string_view text, const std::string& name) {
  std::vector<int32_t> ids;
  const char* at = text.data();
  const char* const end = at + text.size();
  const auto separates = [](char c) { return c == ',' || c == ' ' || c == '\t' || c == '\n' || c == '\r'; };
  while (true) {
    while (at != end && separates(*at)) ++at;
    if (at == end) return ids;
    int32_t id = 0;
    const auto [next, error] = std::from_chars(at, end, id);
    if (error != std::errc() || id < 0 || (next != end && !separates(*next))) {
      const char* stop = at;
      while (stop != end && !separates(*stop) && stop - at < 20) ++stop;
      throw Failure(kUsage, name + ": expected token ids as in 1,2,3, found " + std::string(at, stop));
    }
    ids.push_back(id);
    at = next;
  }
}

std::vector<int32_t> json_ids(const nlohmann::json& json, const std::string& name) {
  std::vector<int32_t> ids;
  if (!json.is_array()) throw Failure(kError, name + ": expected a JSON array of token ids");
  for (const auto& value : json) {
    if (!value.is_number_integer() || value < 0 || value > INT32_MAX) {
      throw Failure(kError, name + ": expected token ids, found " + value.dump(-1, ' ', true).substr(0, 40));
    }
    ids.push_back(value.get<int32_t>());
  }
  return ids;
}

std::vector<std::vector<int32_t>> parse_json_ids(std::string_view text, const std::string& name) {
  nlohmann::json json = nlohmann::json::parse(text, nullptr, false);
  if (json.is_object() && json.contains("ids")) json = nlohmann::json(json["ids"]);
  if (!json.is_array()) throw Failure(kError, name + ": expected a JSON array of ids, or an object with \"ids\"");
  if (json.empty() || !json[0].is_array()) return {json_ids(json, name)};
  std::vector<std::vector<int32_t>> rows;
  for (const auto& row : json) {
    if (!row.is_array()) throw Failure(kError, name + ": expected an array of arrays of ids");
    rows.push_back(json_ids(row, name));
  }
  return rows;
}

std::vector<std::vector<int32_t>> read_ids_file(const std::string& path) {
  const std::string bytes = read_file(path);
  const std::string name = path == "-" ? "standard input" : path;
  if (bytes.compare(0, 6, "\x93NUMPY") == 0) return read_npy_ids(bytes, name);
  const size_t first = bytes.find_first_not_of(" \t\r\n");
  if (first != std::string::npos && (bytes[first] == '[' || bytes[first] == '{')) return parse_json_ids(bytes, name);
  return {parse_ids(bytes, name)};
}

void add_input(CLI::App& app, InputFlags& flags) {
  const std::string group = "Input (standard input is read as text where none is given)";
  flags.text_option = app.add_option("-p,--prompt", flags.text, "the text")->type_name("TEXT");
  flags.file_option = app.add_option("--file", flags.file, "a file with the text, byte for byte; - is standard input")
                          ->type_name("FILE");
  flags.ids_option = app.add_option("--ids", flags.ids, "token ids: 1,2,3")->type_name("IDS");
  flags.ids_file_option =
      app.add_option("--ids-file", flags.ids_file, "a file with token ids: .npy, JSON, or numbers")->type_name("FILE");
  add_text_flags(app, flags.as, group);
  CLI::Option* const sources[] = {flags.text_option, flags.file_option, flags.ids_option, flags.ids_file_option};
  for (CLI::Option* a : sources) {
    a->group(group);
    for (CLI::Option* b : sources) {
      if (a != b) a->excludes(b);
    }
  }
}

std::string read_text(const InputFlags& flags) {
  if (flags.text_option->count() > 0) return flags.text;
  return read_file(flags.file_option->count() > 0 ? flags.file : "-");
}

std::vector<std::vector<int32_t>> read_rows(const InputFlags& flags, const Model& model) {
  if (flags.ids_option->count() > 0) return {parse_ids(flags.ids, "--ids")};
  if (flags.ids_file_option->count() > 0) return read_ids_file(flags.ids_file);
  return {encode(need_tokenizer(model), read_text(flags), flags.as)};
}

std::vector<int32_t> read_ids(const InputFlags& flags, const Model& model) {
  std::vector<std::vector<int32_t>> rows = read_rows(flags, model);
  if (rows.size() > 1) {
    throw Failure(kError, "expected one row of token ids, found " + std::to_string(rows.size()));
  }
  return rows.empty() ? std::vector<int32_t>() : std::move(rows[0]);
}

}  // namespace tool
