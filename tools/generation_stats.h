// How fast a generation was, for display.
#pragma once

#include <finermoe.h>

#include <CLI/CLI.hpp>

#include "printing.h"

namespace tool {

void add_stats_flag(CLI::App& app, bool& stats);
// Tokens per second after the first token, whose pass is the prompt's; 0 if there are none.
double decode_rate(const finermoe_generation_info& info);
// For --stats: prints a line to standard error.
//   expert_cache  by describe_expert_cache
void complain_stats(const finermoe_generation_info& info, const Json& expert_cache);

}  // namespace tool
