// finermoe stats, finermoe perplexity: a model's behaviour over a text.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include "flags.h"
#include "heat_map.h"
#include "input.h"
#include "output_file.h"
#include "progress.h"

namespace tool {

namespace {

constexpr size_t kLargestDefaultWindow = 2048;

size_t count_tokens(const std::vector<std::vector<int32_t>>& windows) {
  size_t n = 0;
  for (const auto& window : windows) n += window.size();
  return n;
}

size_t longest_window(const std::vector<std::vector<int32_t>>& windows) {
  size_t longest = 1;
  for (const auto& window : windows) longest = std::max(longest, window.size());
  return longest;
}

size_t default_window(const Model& model, const ComputeFlags& flags) {
  return flags.context != 0 ? flags.context : clamp_context(model, kLargestDefaultWindow);
}

std::string model_name(const std::string& path) {
  std::filesystem::path normal = std::filesystem::absolute(path).lexically_normal();
  if (!normal.has_filename()) normal = normal.parent_path();
  return normal.filename().string();
}

struct StatsFlags {
  std::string model, svg;
  InputFlags input;
  ComputeFlags compute;
};

void declare_stats(CLI::App& app, StatsFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  app.add_option("--svg", flags.svg, "draw the usage of the experts into this file")->type_name("FILE");
  add_compute(app, flags.compute);
}

int run_stats(const StatsFlags& flags) {
  Interrupt interrupt;
  Progress progress(Progress::kInTokens);
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  Trace trace;
  call(finermoe_trace_create, model.get(), static_cast<uint32_t>(FINERMOE_TRACE_USAGE), trace.out());
  const auto windows = cut_windows(read_rows(flags.input, model), default_window(model, flags.compute));
  const size_t n_tokens = count_tokens(windows);
  if (n_tokens == 0) throw Failure(kError, "there is no token to count");
  const Session session = open_session(model, flags.compute, longest_window(windows));
  call(finermoe_session_set_trace, session.get(), trace.get());
  size_t done = 0;
  for (const auto& window : windows) {
    call(finermoe_session_reset, session.get());
    call(finermoe_session_append, session.get(), window.data(), window.size(), FINERMOE_LOGITS_NONE,
         interrupt.cancel());
    progress.show("tokens", done += window.size(), n_tokens);
  }

  UsageMap map{model_name(flags.model),
               n_tokens,
               read_info<finermoe_trace_info>(finermoe_trace_get_info, trace.get()).n_experts_per_token,
               fetch<size_t>(finermoe_trace_layers, trace.get()),
               {}};
  Json layers = Json::array();
  double loss_sum = 0, similarity_sum = 0;
  for (size_t i = 0; i < map.layers.size(); ++i) {
    map.counts.push_back(fetch<uint64_t>(finermoe_trace_usage, trace.get(), i));
    double loss = 0, similarity = 0;
    call(finermoe_trace_balance_loss, trace.get(), i, &loss);
    call(finermoe_model_expert_similarity, model.get(), map.layers[i], interrupt.cancel(), &similarity);
    layers.push_back(
        {{"layer", map.layers[i]}, {"usage", map.counts.back()}, {"balance_loss", loss}, {"similarity", similarity}});
    loss_sum += loss;
    similarity_sum += similarity;
    progress.show("layers", i + 1, map.layers.size());
  }
  if (!flags.svg.empty()) {
    const std::string svg = draw_heat_map(map);
    OutputFile file(flags.svg);
    file.write(svg.data(), svg.size());
    file.finish();
  }
  const auto n_layers = static_cast<double>(map.layers.size());
  print(dump({{"tokens", n_tokens},
              {"layers", layers},
              {"mean", {{"balance_loss", loss_sum / n_layers}, {"similarity", similarity_sum / n_layers}}}}));
  return kOk;
}

struct PerplexityFlags {
  std::string model;
  InputFlags input;
  ComputeFlags compute;
  size_t window = 0;
};

void declare_perplexity(CLI::App& app, PerplexityFlags& flags) {
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

void add_stats(CommandLine& line) {
  add_command<StatsFlags>(line, "stats", "how evenly the experts are used over a text, and how alike they are, as JSON",
                          "  finermoe stats MODEL --file text.txt --svg experts.svg\n"
                          "  finermoe stats MODEL --ids-file ids.npy\n",
                          declare_stats, run_stats);
}

void add_perplexity(CommandLine& line) {
  add_command<PerplexityFlags>(line, "perplexity", "how well the model predicts a text, as JSON",
                               "  finermoe perplexity MODEL --file text.txt\n"
                               "  finermoe perplexity MODEL --ids-file windows.npy\n",
                               declare_perplexity, run_perplexity);
}

}  // namespace tool
