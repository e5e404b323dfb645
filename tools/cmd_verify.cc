// finermoe verify: reads every file of a checkpoint once.
#include <filesystem>
#include <map>
#include <sstream>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "model_facts.h"
#include "printing.h"
#include "progress.h"

namespace tool {

namespace {

struct VerifyFlags {
  std::string model, sums;
  bool json = false;
};

void declare(CLI::App& app, VerifyFlags& flags) {
  add_model(app, flags.model)->required();
  app.add_option("--sha256sums", flags.sums, "compare with this file, which is as sha256sum writes it")
      ->type_name("FILE");
  app.add_flag("--json", flags.json, "a JSON object instead of lines as sha256sum writes them");
}

std::string not_a_sum(const std::string& path, const std::string& line) {
  return path + ": expected lines as sha256sum writes them, found " + line;
}

// name -> SHA-256 in lower case; from lines "<64 digits>  name" or "<64 digits> *name".
std::map<std::string, std::string> read_sums(const std::string& path) {
  std::map<std::string, std::string> sums;
  std::istringstream lines(read_file(path));
  for (std::string line; std::getline(lines, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty()) continue;
    const bool well_formed = line.size() > 66 && line[64] == ' ' && (line[65] == ' ' || line[65] == '*') &&
                             line.find_first_not_of("0123456789abcdefABCDEF") == 64;
    if (!well_formed) throw Failure(kError, not_a_sum(path, line));
    std::string digits = line.substr(0, 64);
    for (char& c : digits) c = c >= 'A' && c <= 'F' ? static_cast<char>(c - 'A' + 'a') : c;
    sums[std::filesystem::path(line.substr(66)).filename().string()] = digits;
  }
  return sums;
}

Json describe(const finermoe_verification_file& file) {
  return {{"name", file.name},
          {"size", file.size},
          {"sha256", file.sha256},
          {"tensors", file.n_tensors},
          {"nan", file.n_nan},
          {"infinite", file.n_infinite},
          {"first_bad", file.first_bad[0] != '\0' ? Json(file.first_bad) : Json(nullptr)}};
}

int run_verify(const VerifyFlags& flags) {
  std::map<std::string, std::string> expected;
  if (!flags.sums.empty()) expected = read_sums(flags.sums);
  Verification verification;
  {
    const Interrupt interrupt;
    Progress progress(Progress::kInBytes);
    call(finermoe_verification_run, flags.model.c_str(), Progress::report, static_cast<void*>(&progress),
         interrupt.cancel(), verification.out());
  }
  Json files = Json::array(), findings = Json::array();
  std::string lines;
  for (size_t i = 0; i < finermoe_verification_count(verification.get()); ++i) {
    finermoe_verification_file file{};
    file.struct_size = sizeof file;
    call(finermoe_verification_get_file, verification.get(), i, &file);
    const std::string name = file.name;
    lines += std::string(file.sha256) + "  " + name + "\n";
    Json description = describe(file);
    if (file.n_nan + file.n_infinite > 0) {
      findings.push_back(name + ": " + std::to_string(file.n_nan) + " NaN and " + std::to_string(file.n_infinite) +
                         " infinite values, the first in " + file.first_bad);
    }
    if (const auto sum = expected.find(name); sum != expected.end()) {
      description["sha256_matches"] = sum->second == file.sha256;
      if (sum->second != file.sha256) {
        findings.push_back(name + ": expected SHA-256 " + sum->second + ", found " + file.sha256);
      }
      expected.erase(sum);
    }
    files.push_back(std::move(description));
  }
  for (const auto& [name, sum] : expected) findings.push_back(name + ": named in " + flags.sums + ", not in the model");
  const bool untied = unties_head(flags.model, open_model(flags.model, {}, nullptr));
  if (untied) complain(std::string("finermoe: note: ") + kUntiedHead);
  const bool ok = findings.empty();
  for (const Json& finding : findings) complain("finermoe: " + finding.get<std::string>());
  print(flags.json ? dump({{"ok", ok}, {"files", files}, {"findings", findings}, {"unties_head", untied}}, 2) : lines);
  return ok ? kOk : kFound;
}

}  // namespace

void add_verify(CommandLine& line) {
  add_command<VerifyFlags>(line, "verify", "read every file once: structure, SHA-256, NaN and infinity",
                           "  finermoe verify MODEL > SHA256SUMS\n"
                           "  finermoe verify MODEL --sha256sums SHA256SUMS\n",
                           declare, run_verify);
}

}  // namespace tool
