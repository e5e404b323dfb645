// finermoe perplexity: how well a model predicts a text.
#include <cmath>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "printing.h"
#include "progress.h"
#include "units.h"
#include "windows.h"

namespace tool {

namespace {

struct PerplexityFlags {
  std::string model;
  InputFlags input;
  ComputeFlags compute;
  size_t window = 0;
};

void declare(CLI::App& app, PerplexityFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  add_count(app, "--window", flags.window, {2, kMostTokens},
            "ids in a window (default: 2048, or the model's positions where these are fewer)");
  add_compute(app, flags.compute);
}

int run_perplexity(const PerplexityFlags& flags) {
  Interrupt interrupt;
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const size_t window = flags.window != 0 ? flags.window : default_window(model, flags.compute);
  const auto windows = cut_windows(read_rows(flags.input, model), window);
  const size_t n_tokens = count_tokens(windows);
  const Session session = open_session(model, flags.compute, longest_window(windows));
  std::vector<float> logprobs(longest_window(windows));
  double sum = 0;
  size_t done = 0, scored = 0;
  for (const auto& ids : windows) {
    call(finermoe_session_reset, session.get());
    call(finermoe_session_score, session.get(), ids.data(), ids.size(), interrupt.cancel(), logprobs.data(), nullptr,
         logprobs.size(), nullptr);
    for (size_t i = 1; i < ids.size(); ++i) sum -= static_cast<double>(logprobs[i]);
    scored += ids.empty() ? 0 : ids.size() - 1;
    progress.show("perplexity", done += ids.size(), n_tokens);
  }
  if (scored == 0) throw Failure(kError, "expected a window of at least two ids: the first is not scored");
  const double mean = sum / static_cast<double>(scored);
  const double perplexity = std::exp(mean);
  if (!std::isfinite(perplexity)) {
    throw Failure(kError, "the perplexity is not a finite number: the mean negative log-likelihood of " +
                              std::to_string(scored) + " tokens is " + format_fixed(mean, 2));
  }
  print(dump({{"nll_per_token", mean}, {"perplexity", perplexity}, {"tokens", scored}}));
  return kOk;
}

}  // namespace

void add_perplexity(CommandLine& line) {
  add_command<PerplexityFlags>(line, "perplexity", "how well the model predicts a text, as JSON",
                               "  finermoe perplexity MODEL --file text.txt\n"
                               "  finermoe perplexity MODEL --ids-file windows.npy\n",
                               declare, run_perplexity);
}

}  // namespace tool
