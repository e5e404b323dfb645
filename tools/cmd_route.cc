// finermoe route: the experts that the router chooses for every token.
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

namespace tool {

namespace {

struct RouteFlags {
  std::string model;
  InputFlags input;
  ComputeFlags compute;
  bool logits = false, groups = false;
};

void declare(CLI::App& app, RouteFlags& flags) {
  add_model(app, flags.model)->required();
  add_input(app, flags.input);
  app.add_flag("--logits", flags.logits, "the router's logits too");
  app.add_flag("--groups", flags.groups, "the winning groups too, one for each output component");
  add_compute(app, flags.compute);
}

// values [rows, columns] as JSON rows.
template <class T>
Json matrix(const std::vector<T>& values, size_t columns) {
  Json rows = Json::array();
  for (size_t begin = 0; columns > 0 && begin + columns <= values.size(); begin += columns) {
    Json row = Json::array();
    for (size_t i = begin; i < begin + columns; ++i) {
      if constexpr (std::is_same_v<T, float>) {
        row.push_back(json_float(values[i]));
      } else {
        row.push_back(values[i]);
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

int run_route(const RouteFlags& flags) {
  Interrupt interrupt;
  const Model model = open_model(flags.model, flags.compute, interrupt.cancel());
  const std::vector<int32_t> ids = read_ids(flags.input, model);
  Progress progress(Progress::kInTokens);
  const Session session = open_session(model, flags.compute, ids.size(), &progress);
  Trace trace;
  uint32_t what = FINERMOE_TRACE_ROUTES;
  if (flags.logits) what |= FINERMOE_TRACE_LOGITS;
  call(finermoe_trace_create, model.get(), what, trace.out());
  call(finermoe_session_set_trace, session.get(), trace.get());
  call(finermoe_session_append, session.get(), ids.data(), ids.size(), FINERMOE_LOGITS_NONE, interrupt.cancel());

  const auto info = read_info<finermoe_trace_info>(finermoe_trace_get_info, trace.get());
  const std::vector<size_t> layers = fetch<size_t>(finermoe_trace_layers, trace.get());
  // One layer at a time: all of it would be large for a long text.
  print("{\"layers\":[");
  for (size_t i = 0; i < layers.size(); ++i) {
    Json layer = {{"layer", layers[i]},
                  {"experts", matrix(fetch<int32_t>(finermoe_trace_experts, trace.get(), i), info.n_experts_per_token)},
                  {"weights", matrix(fetch<float>(finermoe_trace_weights, trace.get(), i), info.n_experts_per_token)}};
    if (flags.groups)
      layer["groups"] = matrix(fetch<int32_t>(finermoe_trace_groups, trace.get(), i), info.n_components);
    if (flags.logits) layer["logits"] = matrix(fetch<float>(finermoe_trace_logits, trace.get(), i), info.n_experts);
    std::string text = dump(layer);
    text.back() = i + 1 < layers.size() ? ',' : ']';
    print(text);
  }
  print(layers.empty() ? "]}\n" : "}\n");
  return kOk;
}

}  // namespace

void add_route(CommandLine& line) {
  add_command<RouteFlags>(line, "route", "which experts the router chooses for every token, as JSON",
                          "  finermoe route MODEL -p 'In the beginning'\n"
                          "  finermoe route MODEL --ids 1,2,3 --logits --groups\n",
                          declare, run_route);
}

}  // namespace tool
