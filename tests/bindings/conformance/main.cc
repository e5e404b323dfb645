// The conformance suite through the C API: conformance [--write] [NAME…]
//
// Prints one line for each row of bindings/conformance/*.json (those whose names begin with a NAME, where any is
// given).
// --write puts the results into the files as what is expected.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>

#include "runner.h"

namespace fs = std::filesystem;

namespace {

// Numbers with a fraction to within 1e-4, everything else exactly.
bool equal(const Json& expected, const Json& found) {
  if (expected.is_number_float() || found.is_number_float()) {
    return expected.is_number() && found.is_number() && std::fabs(expected.get<double>() - found.get<double>()) <= 1e-4;
  }
  if (expected.is_array() && found.is_array()) {
    return std::equal(expected.begin(), expected.end(), found.begin(), found.end(), equal);
  }
  if (expected.is_object() && found.is_object()) {
    return expected.size() == found.size() &&
           std::all_of(expected.items().begin(), expected.items().end(), [&](const auto& item) {
             return found.contains(item.key()) && equal(item.value(), found[item.key()]);
           });
  }
  return expected == found;
}

// "ok", or what differs.
std::string compare(const Json& expected, const Json& found) {
  if (expected.empty()) return "failed: the row expects nothing";
  for (const auto& [name, value] : expected.items()) {
    const Json result = found.value(name, Json());
    if (!equal(value, result)) return "failed: " + name + ": expected " + value.dump() + ", found " + result.dump();
  }
  return "ok";
}

std::string run(const Behaviours& behaviours, Json& row, bool write) {
  const std::string kind = row["kind"];
  const auto behaviour = behaviours.find(kind);
  if (behaviour == behaviours.end()) return "failed: no such kind: " + kind;
  try {
    const Json found = behaviour->second(row);
    if (write) row["expect"] = found;
    return compare(row.value("expect", Json::object()), found);
  } catch (const Failed& failed) {
    return "failed: " + failed.message;
  } catch (const std::exception& error) {
    return std::string("failed: ") + error.what();
  }
}

// A file's rows as JSON, a row's fields in lines of their own.
std::string formatted(const Json& rows) {
  std::string out = "[\n";
  for (size_t i = 0; i < rows.size(); i++) {
    std::string fields;
    for (const auto& [name, value] : rows[i].items()) {
      const bool first = fields.empty(), in_line = name == "kind" || name == "model" || name == "shape";
      fields += first ? "" : in_line ? ", " : ",\n   ";
      fields += '"' + name + "\": " + value.dump();
    }
    out += "  {" + fields + (i + 1 < rows.size() ? "},\n" : "}\n");
  }
  return out + "]\n";
}

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> names(argv + 1, argv + argc);
  const bool write = std::erase(names, "--write") > 0;
  Behaviours behaviours;
  for (const auto add :
       {add_text, add_models, add_sessions, add_generation, add_batches, add_threads, add_errors, add_writers}) {
    add(behaviours);
  }
  const char* root = std::getenv("FINERMOE_SOURCE");
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(fs::path(root != nullptr ? root : ".") / "bindings/conformance")) {
    if (entry.path().extension() == ".json") files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());

  int failed = 0;
  for (const fs::path& file : files) {
    Json rows = Json::parse(file_bytes(file));
    for (Json& row : rows) {
      const std::string name = file.stem().string() + "/" + row["name"].get<std::string>();
      const auto begins = [&](const std::string& wanted) { return name.starts_with(wanted); };
      if (!names.empty() && std::none_of(names.begin(), names.end(), begins)) continue;
      const std::string result = run(behaviours, row, write);
      failed += result != "ok";
      std::printf("%s\t%s\n", name.c_str(), result.c_str());
      std::fflush(stdout);
    }
    if (write) std::ofstream(file) << formatted(rows);
  }
  return failed > 0 ? 1 : 0;
}
