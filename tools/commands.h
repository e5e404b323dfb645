// How commands are added to the command line.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>

namespace tool {

struct CommandLine {
  CLI::App app;
  std::function<int()> run;  // what the chosen command does; returns the exit code
};

// Adds a command that stores its flags in `Flags` and executes `run(flags)`. `add_flags(app, flags)` declares them.
template <class Flags>
CLI::App* add_command(CommandLine& line, const std::string& name, const std::string& description,
                      const std::string& examples, void (*add_flags)(CLI::App&, Flags&), int (*run)(const Flags&)) {
  CLI::App* command = line.app.add_subcommand(name, description);
  command->footer("Examples:\n" + examples);
  auto flags = std::make_shared<Flags>();
  add_flags(*command, *flags);
  command->callback([&line, flags, run] { line.run = [flags, run] { return run(*flags); }; });
  return command;
}

// One for each cmd_….cc file.
void add_info(CommandLine& line);
void add_generate(CommandLine& line);
void add_chat(CommandLine& line);
void add_tokenize(CommandLine& line);
void add_detokenize(CommandLine& line);
void add_logits(CommandLine& line);
void add_route(CommandLine& line);
void add_stats(CommandLine& line);
void add_perplexity(CommandLine& line);
void add_score(CommandLine& line);
void add_embed(CommandLine& line);
void add_upcycle(CommandLine& line);
void add_synthesize(CommandLine& line);
void add_quantize(CommandLine& line);
void add_verify(CommandLine& line);
void add_plan(CommandLine& line);
void add_bench(CommandLine& line);
void add_system(CommandLine& line);
void add_completion(CommandLine& line);

}  // namespace tool
