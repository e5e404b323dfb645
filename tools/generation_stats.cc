#include "generation_stats.h"

#include <string>

#include "model_facts.h"
#include "printing.h"
#include "units.h"

namespace tool {

void add_stats_flag(CLI::App& app, bool& stats) {
  app.add_flag("--stats", stats, "how many tokens of the prompt and the answer, and how fast, on standard error");
}

double decode_rate(const finermoe_generation_info& info) {
  if (info.n_generated < 2 || info.decode_seconds <= 0) return 0;
  return static_cast<double>(info.n_generated - 1) / info.decode_seconds;
}

void complain_stats(const finermoe_generation_info& info, const Json& expert_cache) {
  const auto rate = [](double per_second) {
    return per_second > 0 ? ", " + format_fixed(per_second, 1) + " tokens/s" : std::string();
  };
  const double n_computed = static_cast<double>(info.n_prompt - info.n_kept);
  const double prefill_rate = info.prefill_seconds > 0 ? n_computed / info.prefill_seconds : 0;
  complain("finermoe: prompt: " + std::to_string(info.n_prompt) + " tokens, " + std::to_string(info.n_kept) + " kept" +
           rate(prefill_rate) + "; answer: " + std::to_string(info.n_generated) + " tokens" + rate(decode_rate(info)) +
           (info.n_drafted == 0 ? std::string()
                                : "; drafted: " + std::to_string(info.n_drafted) + ", of which " +
                                      std::to_string(info.n_accepted) + " chosen") +
           (expert_cache.is_null() ? std::string() : "; expert cache: " + expert_cache_words(expert_cache)));
}

}  // namespace tool
