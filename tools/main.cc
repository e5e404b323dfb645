// finermoe: run, inspect, upcycle and talk to FineRMoE models. Built on finermoe.h.
#include <fcntl.h>
#include <finermoe.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <new>
#include <numeric>

#include "commands.h"
#include "failure.h"
#include "printing.h"

namespace tool {

namespace {

// The layout of the help: an option's name and what follows it, without CLI11's notes on which options exclude each
// other.
class HelpFormatter : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string type = option->get_type_name();
    if (const size_t check = type.find(':'); check != std::string::npos) {
      // A list of choices says more than a placeholder; other checks say less.
      type = type.compare(check + 1, 1, "{") == 0 ? type.substr(check + 2, type.size() - check - 3)
                                                  : type.substr(0, check);
      std::replace(type.begin(), type.end(), ',', '|');
    }
    return type.empty() ? "" : " " + type;
  }
};

size_t edit_distance(const std::string& a, const std::string& b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t changed = diagonal + (a[i - 1] != b[j - 1] ? 1 : 0);
      diagonal = std::exchange(row[j], std::min({changed, row[j] + 1, row[j - 1] + 1}));
    }
  }
  return row.back();
}

// The name closest to an unknown word on the command line; "" if none is close.
std::string suggest(const CLI::App& app, const std::string& word) {
  std::vector<std::string> names;
  const auto used = app.get_subcommands();
  if (used.empty()) {
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
      names.push_back(sub->get_name());
    }
  }
  for (const CLI::Option* option : (used.empty() ? app : *used.back()).get_options()) {
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  }
  const std::string given = word.substr(0, word.find('='));
  std::string best;
  size_t best_distance = given.size() / 3 + 1;
  for (const std::string& name : names) {
    const size_t distance = edit_distance(given, name);
    if (distance <= best_distance && (best.empty() || distance < best_distance)) {
      best = name;
      best_distance = distance;
    }
  }
  return best;
}

int report_usage(const CLI::App& app, const CLI::ParseError& error) {
  const auto used = app.get_subcommands();
  const std::vector<std::string> unknown = app.remaining(true);
  if (used.empty() && unknown.empty()) {
    std::fputs(app.help().c_str(), stderr);
    return kUsage;
  }
  std::string message = error.what();
  if (!unknown.empty()) {
    message = "unknown argument " + unknown.front();
    if (const std::string name = suggest(app, unknown.front()); !name.empty())
      message += "; did you mean " + name + "?";
  }
  complain("finermoe: error: " + message);
  complain("Try finermoe " + (used.empty() ? "" : used.back()->get_name() + " ") + "--help");
  return kUsage;
}

void build(CommandLine& line) {
  const auto formatter = std::make_shared<HelpFormatter>();
  formatter->column_width(32);
  line.app.formatter(formatter);  // the commands that are added inherit it
  line.app.name("finermoe");
  line.app.description("Run, inspect, upcycle and talk to FineRMoE language models.");
  line.app.set_version_flag("--version", std::string("finermoe ") + finermoe_version(), "print the version");
  line.app.footer("finermoe COMMAND --help tells more about a command.");
  line.app.require_subcommand(1);
  for (auto add : {add_info, add_generate, add_chat, add_tokenize, add_detokenize, add_logits, add_route, add_stats,
                   add_perplexity, add_score, add_embed, add_upcycle, add_synthesize, add_quantize, add_verify,
                   add_plan, add_bench, add_system, add_completion}) {
    add(line);
  }
}

int run(int argc, char** argv) {
  CommandLine line;
  build(line);
  try {
    line.app.parse(argc, argv);
    return line.run();
  } catch (const CLI::CallForHelp&) {
    const auto used = line.app.get_subcommands();
    print(used.empty() ? line.app.help() : used.back()->help("finermoe"));
    return kOk;
  } catch (const CLI::CallForVersion& version) {
    print(std::string(version.what()) + "\n");
    return kOk;
  } catch (const CLI::ParseError& error) {
    return report_usage(line.app, error);
  }
}

// If the parent closed a standard descriptor, the next file opened would get its number, and results or messages would
// be written into that file. It is opened in the wrong direction, so that using it is still an error.
void fill_standard_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd) {
    if (fcntl(fd, F_GETFD) < 0) open("/dev/null", fd == STDIN_FILENO ? O_WRONLY : O_RDONLY);
  }
}

}  // namespace

}  // namespace tool

int main(int argc, char** argv) {
  tool::fill_standard_descriptors();
  signal(SIGPIPE, SIG_DFL);  // a closed pipe ends the program silently, whatever the parent set
  try {
    return tool::run(argc, argv);
  } catch (const tool::Failure& failure) {
    const bool cancelled = failure.exit_code() > 128;
    tool::complain(std::string(cancelled ? "finermoe: " : "finermoe: error: ") + failure.what());
    return failure.exit_code();
  } catch (const std::bad_alloc&) {
    std::fputs("finermoe: error: out of memory\n", stderr);
  } catch (const std::exception& error) {
    tool::complain(std::string("finermoe: error: ") + error.what());
  }
  return tool::kError;
}
