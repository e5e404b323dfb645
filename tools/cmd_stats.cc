// finermoe stats: how evenly the experts are used over a text, and how similar they are.
#include <filesystem>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "heat_map.h"
#include "input.h"
#include "interrupt.h"
#include "library.h"
#include "output_file.h"
#include "printing.h"
#include "progress.h"
#include "windows.h"

namespace tool {

namespace {

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

void declare(CLI::App& app, StatsFlags& flags) {
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

}  // namespace

void add_stats(CommandLine& line) {
  add_command<StatsFlags>(line, "stats", "how evenly the experts are used over a text, and how alike they are, as JSON",
                          "  finermoe stats MODEL --file text.txt --svg experts.svg\n"
                          "  finermoe stats MODEL --ids-file ids.npy\n",
                          declare, run_stats);
}

}  // namespace tool
