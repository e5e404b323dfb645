// How commands join the command line: their CLI11 tree and the groups of flags that several of them share.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
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

template <class T>
struct NumberOf {
  using Type = T;
};
template <class T>
struct NumberOf<std::optional<T>> {
  using Type = T;
};

enum ComputeParts { kThreadsOnly, kWithSession };

CLI::Option* add_model(CLI::App& app, std::string& path);
void add_compute(CLI::App& app, ComputeFlags& flags, ComputeParts parts = kWithSession);
void add_threads(CLI::App& app, ComputeFlags& flags);
void add_session(CLI::App& app, ComputeFlags& flags);  // --context and --kv-dtype
void add_memory_limit(CLI::App& app, ComputeFlags& flags);
void add_expert_budget(CLI::App& app, ComputeFlags& flags);
void add_residency(CLI::App& app, ComputeFlags& flags);  // --copy, --lock, --expert-budget and --prefetch
// Whole numbers in decimal digits, or in hexadecimal ones after 0x.
struct Range {
  uint64_t least, most;
};
constexpr uint64_t kMostTokens = INT32_MAX;  // no model has more positions, and no vocabulary more ids
constexpr Range kTokens{1, kMostTokens}, kTokensOrNone{0, kMostTokens}, kAnyNumber{0, UINT64_MAX};
uint64_t parse_count(const std::string& flag, const std::string& text, Range range);  // throws Failure
double parse_real(const std::string& flag, const std::string& text);                  // finite; throws Failure

// `value` is a number, or an optional one.
template <class Count>
CLI::Option* add_count(CLI::App& app, const std::string& name, Count& value, Range range,
                       const std::string& description) {
  const auto parse = [&value, name, range](const std::string& text) {
    value = static_cast<typename NumberOf<Count>::Type>(parse_count(name, text, range));
  };
  return app.add_option_function<std::string>(name, parse, description)->type_name("N");
}
CLI::Option* add_real(CLI::App& app, const std::string& name, std::optional<double>& value,
                      const std::string& description);
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
