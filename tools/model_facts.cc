#include "model_facts.h"

#include "library.h"
#include "units.h"

namespace tool {

finermoe_config_info model_info(const Model& model) {
  Config config;
  call(finermoe_config_open_model, model.get(), config.out());
  finermoe_config_info info = read_info<finermoe_config_info>(finermoe_config_get_info, config.get());
  info.model_type = "";  // it points into the configuration, which is freed here
  return info;
}

uint64_t clamp_context(const Model& model, uint64_t wanted) {
  const uint64_t most = model_info(model).max_positions;
  return wanted < most ? wanted : most;
}

bool unties_head(const std::string& path, const Model& model) {
  Config config;
  call(finermoe_config_open, path.c_str(), config.out());
  const bool is_tied = read_info<finermoe_config_info>(finermoe_config_get_info, config.get()).tied_embeddings != 0;
  return is_tied && model_info(model).tied_embeddings == 0;
}

Json describe_weights(const finermoe_plan& plan) {
  return {{"total", plan.weights_total},         {"embeddings", plan.weights_embeddings},
          {"attention", plan.weights_attention}, {"dense", plan.weights_dense},
          {"shared", plan.weights_shared},       {"routed", plan.weights_routed},
          {"router", plan.weights_router}};
}

Json describe_expert_cache(const Model& model) {
  const auto info = read_info<finermoe_expert_cache_info>(finermoe_model_get_expert_cache, model.get());
  if (info.n_slots == 0) return nullptr;
  return {{"bytes", info.bytes}, {"experts", info.n_slots}, {"hits", info.n_hits}, {"misses", info.n_misses}};
}

std::string expert_cache_words(const Json& cache) {
  return format_bytes(cache["bytes"].get<uint64_t>()) + ", " + cache["experts"].dump() + " experts; " +
         cache["hits"].dump() + " hits, " + cache["misses"].dump() + " misses";
}

Json describe_attention(const finermoe_config_info& info) {
  Json attention = {{"head_size", info.head_size}, {"rope_scaling", nullptr}, {"sliding_window", nullptr}};
  if (info.rope_scaling != std::string_view("none")) {
    Json& scaling = attention["rope_scaling"] = {
        {"type", info.rope_scaling}, {"factor", info.rope_factor}, {"attention_factor", info.rope_attention_factor}};
    scaling["original_positions"] =
        info.rope_original_positions == 0 ? Json(nullptr) : Json(info.rope_original_positions);
  }
  if (info.sliding_window != 0) {
    attention["sliding_window"] = {{"positions", info.sliding_window}, {"layers", info.n_sliding_layers}};
  }
  return attention;
}

std::vector<std::pair<std::string, std::string>> attention_rows(const Json& attention) {
  std::vector<std::pair<std::string, std::string>> rows;
  const Json &scaling = attention["rope_scaling"], &window = attention["sliding_window"];
  if (!scaling.is_null()) {
    std::string text = scaling["type"].get<std::string>() + ", factor " + scaling["factor"].dump();
    if (!scaling["original_positions"].is_null()) text += " of " + scaling["original_positions"].dump() + " positions";
    rows.emplace_back("rope scaling", std::move(text));
  }
  if (!window.is_null()) {
    rows.emplace_back("window", window["positions"].dump() + " positions, in " + window["layers"].dump() +
                                    (window["layers"] == 1 ? " layer" : " layers"));
  }
  return rows;
}

}  // namespace tool
