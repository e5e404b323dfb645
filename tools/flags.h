// How commands join the command line: their CLI11 tree and the groups of flags that several of them share.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <string>

#include "common.h"

namespace tool {

struct CommandLine {
  CLI::App app;
  std::function<int()> run;  // what the chosen command does; returns the exit code
};

// A command whose flags live in `Flags` and that ends in `run(flags)`. `add_flags(app, flags)` declares them.
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

enum ComputeParts { kThreadsOnly, kWithSession };

CLI::Option* add_model(CLI::App& app, std::string& path);
void add_compute(CLI::App& app, ComputeFlags& flags, ComputeParts parts = kWithSession);
void add_threads(CLI::App& app, ComputeFlags& flags);
void add_session(CLI::App& app, ComputeFlags& flags);  // --context and --kv-dtype
void add_memory_limit(CLI::App& app, ComputeFlags& flags);
void add_expert_budget(CLI::App& app, ComputeFlags& flags);
void add_residency(CLI::App& app, ComputeFlags& flags);  // --copy, --lock, --expert-budget and --prefetch
CLI::Option* add_size(CLI::App& app, const std::string& name, uint64_t& bytes, const std::string& description);
CLI::Option* add_choice(CLI::App& app, const std::string& name, std::string& value,
                        const std::vector<std::string>& choices, const std::string& description);

void add_info(CommandLine& line);
void add_generate(CommandLine& line);
void add_chat(CommandLine& line);
void add_tokenize(CommandLine& line);
void add_detokenize(CommandLine& line);
void add_logits(CommandLine& line);
void add_route(CommandLine& line);
void add_stats(CommandLine& line);
void add_perplexity(CommandLine& line);
void add_upcycle(CommandLine& line);
void add_synthesize(CommandLine& line);
void add_quantize(CommandLine& line);
void add_verify(CommandLine& line);
void add_plan(CommandLine& line);
void add_bench(CommandLine& line);
void add_completion(CommandLine& line);

}  // namespace tool
