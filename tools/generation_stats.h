// How fast a generation was, for people.
#pragma once

#include <finermoe.h>

#include <CLI/CLI.hpp>

namespace tool {

void add_stats_flag(CLI::App& app, bool& stats);
// Of the tokens after the first, whose pass is the prompt's; 0 where there is none.
double decode_rate(const finermoe_generation_info& info);
// For --stats: a line on standard error.
void complain_stats(const finermoe_generation_info& info);

}  // namespace tool
