// finermoe plan: the memory that a model and its sessions need, before anything is loaded.
#include <algorithm>

#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "library.h"
#include "model_facts.h"
#include "printing.h"
#include "units.h"

namespace tool {

namespace {

struct PlanFlags {
  std::string model, config;
  ComputeFlags compute;
  size_t sessions = 1;
  bool json = false;
};

void declare(CLI::App& app, PlanFlags& flags) {
  CLI::Option* model = add_model(app, flags.model);
  app.add_option("--config", flags.config, "a config.json alone, without weights")->type_name("FILE")->excludes(model);
  add_count(app, "--sessions", flags.sessions, {1, 1 << 20}, "sessions that live at once (default 1)");
  app.add_flag("--json", flags.json, "a JSON object");
  add_threads(app, flags.compute);
  add_session(app, flags.compute);
  add_memory_limit(app, flags.compute);
  add_expert_budget(app, flags.compute);
}

// Which part of the weights will be in memory after a while.
struct Residency {
  uint64_t every_token, experts;
  bool larger_than_memory;

  Residency(const finermoe_plan& plan, uint64_t budget)
      : every_token(plan.weights_every_token),
        experts(budget == 0 ? plan.weights_routed : std::min(budget, plan.weights_routed)),
        larger_than_memory(plan.weights_total > plan.memory_available) {}
};

std::string for_a_person(const Residency& residency, const finermoe_plan& plan) {
  std::string text = "in memory after a while: " + format_bytes(residency.every_token) + " that every token reads";
  if (plan.weights_routed > 0) {
    text += residency.experts < plan.weights_routed ? ", experts within a budget of " : ", experts as they are used: ";
    text += format_bytes(residency.experts);
  }
  text += "\n";
  if (residency.larger_than_memory) {
    text += "the weights are larger than the memory available: ";
    text += plan.weights_routed > 0 && residency.every_token < plan.memory_available
                ? "chosen experts will be read from the disk (--lock every-token keeps the rest in memory)\n"
                : "every token will read from the disk\n";
  }
  return text;
}

std::string for_a_person(const finermoe_plan& plan, const Json& attention, const PlanFlags& flags, bool fits) {
  const auto row = [](const std::string& name, uint64_t bytes) {
    return name + std::string(22 - name.size(), ' ') + format_bytes(bytes) + "\n";
  };
  std::string text = row("weights (mapped)", plan.weights_total) + row("  embeddings", plan.weights_embeddings) +
                     row("  attention", plan.weights_attention);
  if (plan.weights_dense > 0) text += row("  dense FFN", plan.weights_dense);
  if (plan.weights_routed > 0) {
    text += row("  shared experts", plan.weights_shared) + row("  routed experts", plan.weights_routed) +
            row("  routers", plan.weights_router);
  }
  text += row("allocated", plan.allocated_total) + row("  KV cache", plan.kv_cache) + row("  scratch", plan.scratch);
  text += row("read per token", plan.bytes_per_token) + row("memory available", plan.memory_available);
  text += "head size" + std::string(13, ' ') + attention["head_size"].dump() + "\n";
  for (const auto& [name, value] : attention_rows(attention)) {
    text.append(name).append(22 - name.size(), ' ').append(value).append("\n");
  }
  text += for_a_person(Residency(plan, flags.compute.expert_budget), plan);
  if (flags.compute.memory_limit > 0) {
    text += row("memory limit", flags.compute.memory_limit);
    text += fits ? "fits: what is allocated stays under the limit\n"
                 : "does not fit: what is allocated is more than the limit\n";
  }
  return text;
}

// If config.json ties the head, only the weights tell whether there is a separate one anyway. A plan needs no weights:
// without them it goes by config.json.
Config open_config(const std::string& path, bool may_have_weights) {
  Config config;
  call(finermoe_config_open, path.c_str(), config.out());
  const auto info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  if (!may_have_weights || info.tied_embeddings == 0) return config;
  try {
    const Model model = open_model(path, {}, nullptr);
    Config resolved;
    call(finermoe_config_open_model, model.get(), resolved.out());
    return resolved;
  } catch (const LibraryError&) {
    return config;
  }
}

int run_plan(const PlanFlags& flags) {
  if (flags.model.empty() && flags.config.empty()) throw Failure(kUsage, "plan: expected MODEL or --config FILE");
  const Config config = open_config(flags.model.empty() ? flags.config : flags.model, !flags.model.empty());
  const finermoe_plan plan = compute_plan(config, flags.compute, flags.sessions);
  const uint64_t limit = flags.compute.memory_limit;
  const bool fits = limit == 0 || plan.allocated_total <= limit;
  const Json attention = describe_attention(read_info<finermoe_config_info>(finermoe_config_get_info, config.get()));
  if (!flags.json) {
    print(for_a_person(plan, attention, flags, fits));
    return fits ? kOk : kFound;
  }
  Json json = {{"weights", describe_weights(plan)},
               {"kv_cache", plan.kv_cache},
               {"scratch", plan.scratch},
               {"allocated_total", plan.allocated_total},
               {"bytes_per_token", plan.bytes_per_token},
               {"sessions", flags.sessions},
               {"attention", attention}};
  const Residency residency(plan, flags.compute.expert_budget);
  json["resident"] = {{"every_token", residency.every_token}, {"experts", residency.experts}};
  json["memory_available"] = plan.memory_available;
  json["larger_than_memory"] = residency.larger_than_memory;
  if (limit > 0) {
    json["memory_limit"] = limit;
    json["fits"] = fits;
  }
  print(dump(json, 2));
  return fits ? kOk : kFound;
}

}  // namespace

void add_plan(CommandLine& line) {
  add_command<PlanFlags>(line, "plan", "the memory that a model and its sessions take, before anything is loaded",
                         "  finermoe plan MODEL --sessions 4 --context 8192\n"
                         "  finermoe plan --config config.json --memory-limit 24GB --json\n",
                         declare, run_plan);
}

}  // namespace tool
