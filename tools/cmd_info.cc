// finermoe info: describes a checkpoint or a configuration.
#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "flags.h"
#include "handles.h"
#include "library.h"
#include "model_facts.h"
#include "names.h"
#include "printing.h"
#include "tokenizer.h"
#include "units.h"

namespace tool {

namespace {

struct InfoFlags {
  std::string model, config;
  bool json = false;
};

void declare(CLI::App& app, InfoFlags& flags) {
  CLI::Option* model = add_model(app, flags.model);
  app.add_option("--config", flags.config, "a config.json alone, without weights")->type_name("FILE")->excludes(model);
  app.add_flag("--json", flags.json, "a JSON object");
}

Json describe_shape(const finermoe_config_info& info) {
  Json shape = {{"hidden_size", info.hidden_size},
                {"intermediate_size", info.intermediate_size},
                {"layers", info.n_layers},
                {"moe_layers", info.n_moe_layers},
                {"heads", info.n_heads},
                {"kv_heads", info.n_kv_heads},
                {"vocab_size", info.vocab_size},
                {"max_positions", info.max_positions},
                {"rms_norm_eps", info.rms_norm_eps},
                {"rope_theta", info.rope_theta},
                {"tied_embeddings", info.tied_embeddings != 0}};
  shape.update(describe_attention(info));
  if (info.n_experts == 0) return shape;
  shape.update(Json{{"G_I", info.granularity_inter},
                    {"R_I", info.expansion_inter},
                    {"G_O", info.granularity_output},
                    {"R_O", info.expansion_output},
                    {"experts", info.n_experts},
                    {"experts_per_token", info.n_experts_per_token},
                    {"expert_width", info.expert_width},
                    {"expert_output_width", info.expert_output_width},
                    {"shared_expert_width", info.shared_expert_width},
                    {"concat_proj", info.has_concat_proj != 0},
                    {"separate_router", info.has_separate_router != 0},
                    {"norm_topk_prob", info.norm_topk_prob != 0}});
  return shape;
}

Json describe_tokenizer(const Model& model) {
  std::string fault;
  const Tokenizer tokenizer = find_tokenizer(model, &fault);
  if (!tokenizer) return fault.empty() ? Json(nullptr) : Json{{"error", fault}};
  const auto info = read_info<finermoe_tokenizer_info>(finermoe_tokenizer_get_info, tokenizer.get());
  const auto id = [](int32_t value) { return value < 0 ? Json(nullptr) : Json(value); };
  return {{"vocab_size", info.vocab_size}, {"added_tokens", info.n_added}, {"bos_id", id(info.bos_id)},
          {"eos_id", id(info.eos_id)},     {"pad_id", id(info.pad_id)},    {"chat", info.has_chat != 0}};
}

Json describe_generation(const Model& model) {
  GenerationOptions options;
  try {
    call(finermoe_generation_options_create, model.get(), options.out());
  } catch (const LibraryError& error) {
    return {{"error", error.what()}};
  }
  const auto info = read_info<finermoe_generation_options_info>(finermoe_generation_options_get_info, options.get());
  return {{"max_tokens", info.max_tokens == 0 ? Json(nullptr) : Json(info.max_tokens)},
          {"temperature", info.temperature},
          {"top_k", info.top_k},
          {"top_p", info.top_p},
          {"repetition_penalty", info.repetition_penalty},
          {"stop_tokens", info.n_stop_tokens}};
}

std::string yes_no(const Json& flag) { return flag.get<bool>() ? "yes" : "no"; }

std::string for_a_person(const Json& json) {
  const Json& shape = json["shape"];
  const auto value = [&](const char* key) { return shape[key].dump(); };
  const auto row = [](const std::string& name, const std::string& text) {
    return name + std::string(name.size() < 14 ? 14 - name.size() : 1, ' ') + text + "\n";
  };
  std::string text = row("type", json["model_type"].get<std::string>() + ", " + json["dtype"].get<std::string>());
  text += row("parameters", format_count(json["parameters_total"].get<uint64_t>()) + " total, " +
                                format_count(json["parameters_active"].get<uint64_t>()) + " active");
  text += row("layers", value("layers") + ", of which " + value("moe_layers") + " MoE");
  text += row("width", value("hidden_size") + " (dense FFN " + value("intermediate_size") + ")");
  text += row("attention", value("heads") + " heads, " + value("kv_heads") + " KV heads of " + value("head_size"));
  text += row("positions", value("max_positions"));
  for (const auto& [name, more] : attention_rows(shape)) text += row(name, more);
  text += row("vocabulary", value("vocab_size") + (shape["tied_embeddings"].get<bool>() ? ", head tied" : ""));
  if (json.value("unties_head", false)) text += row("head", kUntiedHead);
  if (shape.contains("experts")) {
    text += row("experts", value("experts") + ", " + value("experts_per_token") + " per token, " +
                               value("expert_width") + " wide, " + value("expert_output_width") + " out");
    text += row("shape",
                "G_I " + value("G_I") + ", R_I " + value("R_I") + ", G_O " + value("G_O") + ", R_O " + value("R_O"));
    const bool shared = shape["shared_expert_width"].get<uint64_t>() > 0;
    text += row("shared expert", shared ? value("shared_expert_width") + " wide" : "none");
    text += row("concat proj", yes_no(shape["concat_proj"]));
    text += row("router", shape["separate_router"].get<bool>() ? "separate" : "single");
  }
  text += row("weights", format_bytes(json["bytes"]["weights"]["total"].get<uint64_t>()));
  text += row("per token", format_bytes(json["bytes"]["per_token"].get<uint64_t>()) + " of weights read");
  if (!json.contains("tokenizer")) return text;
  const Json &tokenizer = json["tokenizer"], &generation = json["generation"];
  if (generation.contains("error")) text += row("generation", "no defaults: " + generation["error"].get<std::string>());
  if (tokenizer.is_null()) return text + row("tokenizer", "none");
  if (tokenizer.contains("error"))
    return text + row("tokenizer", "not usable: " + tokenizer["error"].get<std::string>());
  return text + row("tokenizer", tokenizer["vocab_size"].dump() + " ids, chat template: " + yes_no(tokenizer["chat"]));
}

int run_info(const InfoFlags& flags) {
  if (flags.model.empty() && flags.config.empty()) throw Failure(kUsage, "info: expected MODEL or --config FILE");
  Model model;
  Config config;
  if (!flags.model.empty()) {
    model = open_model(flags.model, {}, nullptr);
    call(finermoe_config_open_model, model.get(), config.out());
  } else {
    call(finermoe_config_open, flags.config.c_str(), config.out());
  }
  const auto info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  const finermoe_plan plan = compute_plan(config, {}, 1);
  Json json = {{"model_type", info.model_type},
               {"dtype", dtype_name(info.dtype)},
               {"parameters_total", info.parameters_total},
               {"parameters_active", info.parameters_active},
               {"shape", describe_shape(info)},
               {"bytes", {{"weights", describe_weights(plan)}, {"per_token", plan.bytes_per_token}}}};
  if (model) {
    json["unties_head"] = unties_head(flags.model, model);
    json["tokenizer"] = describe_tokenizer(model);
    json["generation"] = describe_generation(model);
  }
  print(flags.json ? dump(json, 2) : for_a_person(json));
  return kOk;
}

}  // namespace

void add_info(CommandLine& line) {
  add_command<InfoFlags>(line, "info", "what a model is: shape, parameters, bytes, tokenizer",
                         "  finermoe info MODEL\n"
                         "  finermoe info --config config.json --json\n",
                         declare, run_info);
}

}  // namespace tool
