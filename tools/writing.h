// What the commands that write checkpoints have in common.
#pragma once

#include <finermoe.h>

#include <CLI/CLI.hpp>
#include <cstdint>
#include <functional>
#include <string>

namespace tool {

struct WriterFlags {
  uint64_t seed = 0, shard_size = 0;
  bool force = false;
};

void add_out(CLI::App& app, std::string& out);
void add_seed(CLI::App& app, WriterFlags& flags);
void add_writer(CLI::App& app, WriterFlags& flags);  // the others

// Calls `write` to write OUT, with a progress bar, until it is done or interrupted, and reports the outcome.
int write_model(const WriterFlags& flags, const std::string& out,
                const std::function<void(finermoe_writer_options*)>& write);

}  // namespace tool
