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

// A plan, and if it has an expert cache what the CPU reads for a token if the same memory has no cache.
struct Plans {
  finermoe_plan asked;
  uint64_t read_without_cache = 0;
  std::string why_no_cache;  // though one is asked for

  Plans(const Config& config, const PlanFlags& flags) : asked(compute_plan(config, flags.compute, flags.sessions)) {
    if (flags.compute.expert_cache == 0) return;
    if (asked.expert_cache == 0) {
      why_no_cache = asked.device_routed == asked.weights_routed ? "not needed: all experts fit"
                                                                 : "none: no layer that is there has experts";
      return;
    }
    ComputeFlags without = flags.compute;
    without.expert_cache = 0;
    const finermoe_plan plan = compute_plan(config, without, flags.sessions);
    read_without_cache = plan.bytes_per_token - plan.device_bytes_per_token;
  }
};

void declare(CLI::App& app, PlanFlags& flags) {
  CLI::Option* model = add_model(app, flags.model);
  app.add_option("--config", flags.config, "a config.json alone, without weights")->type_name("FILE")->excludes(model);
  add_count(app, "--sessions", flags.sessions, {1, 1 << 20}, "sessions that live at once (default 1)");
  app.add_flag("--json", flags.json, "a JSON object");
  add_threads(app, flags.compute);
  add_session(app, flags.compute);
  add_device(app, flags.compute);
  add_expert_cache(app, flags.compute);
  add_memory_limit(app, flags.compute);
  add_expert_budget(app, flags.compute);
}

// Whether the memory limit and the device's memory suffice.
struct Fit {
  bool limit, device;

  Fit(const finermoe_plan& plan, uint64_t memory_limit)
      : limit(memory_limit == 0 || plan.allocated_total <= memory_limit),
        device(plan.device_total <= plan.device_memory) {}
  int exit_code() const { return limit && device ? kOk : kFound; }
};

// Whether weights are copied to a device.
bool has_device(const finermoe_plan& plan) { return plan.device_memory != 0; }

// Which part of the weights will be in the machine's memory after a while.
struct Residency {
  uint64_t experts, every_token;
  bool has_all_experts = true, larger_than_memory;

  Residency(const finermoe_plan& plan, size_t n_layers, uint64_t budget)
      : experts(plan.weights_routed - plan.device_routed),
        every_token(plan.weights_every_token),
        larger_than_memory(plan.host_weights > plan.memory_available) {
    if (has_device(plan) && plan.device_layers == n_layers) every_token = 0;
    // A device without all layers has no routed experts, and no embedding that is not the head too.
    if (has_device(plan) && plan.device_layers < n_layers) every_token -= plan.device_bytes_per_token;
    if (budget == 0 || budget >= experts) return;
    experts = budget;
    has_all_experts = false;
  }
};

std::string for_a_person(const Residency& residency, const finermoe_plan& plan) {
  if (residency.every_token == 0 && residency.experts == 0) return {};
  std::string text = "in memory after a while:";
  if (residency.every_token > 0) text += " " + format_bytes(residency.every_token) + " that every token reads";
  if (residency.every_token > 0 && residency.experts > 0) text += ",";
  if (residency.experts > 0) {
    text += residency.has_all_experts ? " experts as they are used: " : " experts within a budget of ";
    text += format_bytes(residency.experts);
  }
  text += "\n";
  if (residency.larger_than_memory) {
    text += "the weights are larger than the memory available: ";
    text += residency.experts > 0 && residency.every_token < plan.memory_available
                ? "chosen experts will be read from the disk (--lock every-token keeps the rest in memory)\n"
                : "every token will read from the disk\n";
  }
  return text;
}

std::string row(std::string name, const std::string& text) {
  if (!text.empty()) name.resize(std::max<size_t>(22, name.size() + 1), ' ');
  return name + text + "\n";
}
std::string row(const std::string& name, uint64_t bytes) { return row(name, format_bytes(bytes)); }

// What goes to the device, and what the CPU keeps.
std::string device_rows(const Plans& plans, const finermoe_config_info& info, const std::string& name) {
  const finermoe_plan& plan = plans.asked;
  const auto of = [](const std::string& part, const std::string& all) { return part + " of " + all; };
  std::string text = row("on " + name, of(format_bytes(plan.device_total), format_bytes(plan.device_memory)));
  text += row("  layers", of(std::to_string(plan.device_layers), std::to_string(info.n_layers)));
  if (info.n_moe_layers > 0) {
    text += row("  with their experts", of(std::to_string(plan.device_moe_layers), std::to_string(info.n_moe_layers)));
  }
  text += row("  weights", plan.device_weights) + row("  read per token", plan.device_bytes_per_token);
  if (!plans.why_no_cache.empty()) text += row("  expert cache", plans.why_no_cache);
  if (plan.expert_cache > 0) {
    text += row("  expert cache",
                format_bytes(plan.expert_cache) + ", " + std::to_string(plan.expert_cache_slots) + " experts") +
            row("  copied per token", format_bytes(plan.fetched_bytes_per_token) + " if experts are chosen evenly");
  }
  if (plan.host_weights == 0) return text;
  text += row("on the CPU", "") + row("  weights (mapped)", plan.host_weights) +
          row("  read per token", plan.bytes_per_token - plan.device_bytes_per_token);
  return plan.expert_cache == 0 ? text : text + row("  without the cache", plans.read_without_cache);
}

std::string for_a_person(const Plans& plans, const finermoe_config_info& info, const PlanFlags& flags, const Fit& fit) {
  const finermoe_plan& plan = plans.asked;
  const Json attention = describe_attention(info);
  std::string text = row(has_device(plan) ? "weights" : "weights (mapped)", plan.weights_total) +
                     row("  embeddings", plan.weights_embeddings) + row("  attention", plan.weights_attention);
  if (plan.weights_dense > 0) text += row("  dense FFN", plan.weights_dense);
  if (plan.weights_routed > 0) {
    text += row("  shared experts", plan.weights_shared) + row("  routed experts", plan.weights_routed) +
            row("  routers", plan.weights_router);
  }
  text += row("allocated", plan.allocated_total) + row("  KV cache", plan.kv_cache) + row("  scratch", plan.scratch);
  text += row("read per token", plan.bytes_per_token) + row("memory available", plan.memory_available);
  text += row("head size", attention["head_size"].dump());
  for (const auto& [name, value] : attention_rows(attention)) text += row(name, value);
  if (has_device(plan)) text += device_rows(plans, info, flags.compute.device);
  text += for_a_person(Residency(plan, info.n_layers, flags.compute.expert_budget), plan);
  if (flags.compute.memory_limit > 0) {
    text += row("memory limit", flags.compute.memory_limit);
    text += fit.limit ? "fits: what is allocated stays under the limit\n"
                      : "does not fit: what is allocated is more than the limit\n";
  }
  if (!fit.device) {
    text += "does not fit: the head and one layer are more than " + flags.compute.device + " has\n";
  }
  return text;
}

Json describe_device(const Plans& plans, const std::string& name, bool fits) {
  const finermoe_plan& plan = plans.asked;
  Json device = {{"name", name},
                 {"memory", plan.device_memory},
                 {"total", plan.device_total},
                 {"weights", plan.device_weights},
                 {"routed", plan.device_routed},
                 {"layers", plan.device_layers},
                 {"moe_layers", plan.device_moe_layers},
                 {"bytes_per_token", plan.device_bytes_per_token},
                 {"fits", fits}};
  if (plan.expert_cache > 0) {
    device["expert_cache"] = {{"bytes", plan.expert_cache},
                              {"experts", plan.expert_cache_slots},
                              {"copied_per_token", plan.fetched_bytes_per_token},
                              {"cpu_reads_without", plans.read_without_cache}};
  }
  if (!plans.why_no_cache.empty()) device["expert_cache"] = nullptr;
  return device;
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
  const Plans plans(config, flags);
  const finermoe_plan& plan = plans.asked;
  const uint64_t limit = flags.compute.memory_limit;
  const Fit fit(plan, limit);
  const auto info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  if (!flags.json) {
    print(for_a_person(plans, info, flags, fit));
    return fit.exit_code();
  }
  Json json = {{"weights", describe_weights(plan)},
               {"kv_cache", plan.kv_cache},
               {"scratch", plan.scratch},
               {"allocated_total", plan.allocated_total},
               {"bytes_per_token", plan.bytes_per_token},
               {"sessions", flags.sessions},
               {"attention", describe_attention(info)}};
  const Residency residency(plan, info.n_layers, flags.compute.expert_budget);
  json["resident"] = {{"every_token", residency.every_token}, {"experts", residency.experts}};
  json["memory_available"] = plan.memory_available;
  json["larger_than_memory"] = residency.larger_than_memory;
  if (limit > 0) {
    json["memory_limit"] = limit;
    json["fits"] = fit.limit;
  }
  if (has_device(plan)) json["device"] = describe_device(plans, flags.compute.device, fit.device);
  print(dump(json, 2));
  return fit.exit_code();
}

}  // namespace

void add_plan(CommandLine& line) {
  add_command<PlanFlags>(line, "plan", "the memory that a model and its sessions take, before anything is loaded",
                         "  finermoe plan MODEL --sessions 4 --context 8192\n"
                         "  finermoe plan --config config.json --memory-limit 24GB --json\n"
                         "  finermoe plan MODEL --device cuda:0 --device-memory 8GB\n"
                         "  finermoe plan MODEL --device cuda:0 --device-memory 8GB --expert-cache 2GB\n",
                         declare, run_plan);
}

}  // namespace tool
