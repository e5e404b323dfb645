#include "convert/upcycled_config.h"

#include "base/json.h"

namespace finermoe {
namespace {

const char* torch_name(DType dtype) {
  return dtype == DType::f32 ? "float32" : dtype == DType::f16 ? "float16" : "bfloat16";
}

// `whole` = intermediate_size or hidden_size; `parts` = G_I or G_O.
Status check_divides(const char* whole_name, uint64_t whole, const char* parts_name, uint64_t parts) {
  if (whole % parts == 0) return {};
  return Status(FINERMOE_ERROR_CONFIG_INCONSISTENT,
                format_text(whole_name, " ", whole, " is not divisible by ", parts_name, " ", parts),
                format_text("a multiple of ", parts), format_text(whole));
}

// N = G_O R_O G_I R_I (Eq. 5), after the checks of docs/finermoe-layer.md, section 4.
Result<uint64_t> count_experts(const Config& dense, const UpcycleOptions& options) {
  uint64_t group = 0, n_experts = options.granularity_output;
  if (options.granularity_inter == 0 || options.expansion_inter == 0 || options.granularity_output == 0 ||
      options.expansion_output == 0 || options.top_inter == 0)
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "G_I, R_I, G_O, R_O and T_I must each be 1 or more", "1 or more",
                  "0");
  FM_TRY(check_divides("intermediate_size", dense.intermediate_size, "G_I", options.granularity_inter));
  FM_TRY(check_divides("hidden_size", dense.hidden_size, "G_O", options.granularity_output));
  bool overflow = __builtin_mul_overflow(options.granularity_inter, options.expansion_inter, &group);
  overflow |= __builtin_mul_overflow(n_experts, options.expansion_output, &n_experts);
  overflow |= __builtin_mul_overflow(n_experts, group, &n_experts);
  if (overflow || n_experts > UINT32_MAX)
    return Status(FINERMOE_ERROR_CONFIG_INCONSISTENT,
                  format_text("G_O ", options.granularity_output, " x R_O ", options.expansion_output, " x G_I ",
                              options.granularity_inter, " x R_I ", options.expansion_inter, " experts are too many"));
  if (options.top_inter > group)
    return Status(FINERMOE_ERROR_CONFIG_INCONSISTENT,
                  format_text("T_I ", options.top_inter, " is larger than a group of G_I ", options.granularity_inter,
                              " x R_I ", options.expansion_inter, " = ", group, " experts"),
                  format_text("T_I of at most ", group), format_text(options.top_inter));
  return n_experts;
}

}  // namespace

Result<std::string> upcycled_config(const Checkpoint& dense, const UpcycleOptions& options) {
  const Config& config = dense.config();
  FM_ASSIGN(uint64_t n_experts, count_experts(config, options));
  FM_ASSIGN(std::optional<std::string> text, dense.text("config.json"));
  FM_ASSIGN(Json out, parse_json(text.value_or(""), "the dense config.json", FINERMOE_ERROR_CONFIG_MALFORMED));

  out["architectures"] = Json::array({"FineRMoeForCausalLM"});
  out["model_type"] = "finer_moe";
  out["G_I"] = options.granularity_inter;
  out["R_I"] = options.expansion_inter;
  out["G_O"] = options.granularity_output;
  out["R_O"] = options.expansion_output;
  out["num_experts"] = n_experts;
  out["num_experts_per_tok"] = options.granularity_output * options.top_inter;
  out["moe_intermediate_size"] = config.intermediate_size / options.granularity_inter;
  out["shared_expert_intermediate_size"] = options.shared_expert ? config.intermediate_size : 0;
  out["moe_concat_proj"] = options.concat_proj != ConcatProj::none;
  if (options.separate_router) out["router_type"] = "separate";
  out["decoder_sparse_step"] = 1;
  out["mlp_only_layers"] = Json::array();
  out["norm_topk_prob"] = false;
  out["output_router_logits"] = false;
  out["router_aux_loss_coef"] = 0.001;
  out["tie_word_embeddings"] = false;
  out.erase("auto_map");  // names classes of the dense model

  // Keys whose default differs between Qwen2Config, which reads the dense model, and Qwen2MoeConfig.
  out["hidden_size"] = config.hidden_size;
  out["intermediate_size"] = config.intermediate_size;
  out["num_hidden_layers"] = config.n_layers;
  out["num_attention_heads"] = config.n_heads;
  out["num_key_value_heads"] = config.n_kv_heads;
  out["use_sliding_window"] = config.sliding_window != 0;
  if (config.sliding_window != 0) {
    out["sliding_window"] = config.sliding_window;
    Json& types = out["layer_types"] = Json::array();
    for (bool slides : config.is_sliding_layer) types.push_back(slides ? "sliding_attention" : "full_attention");
  }

  // Keys that newer versions of transformers rename or omit, where their code and the authors' differ.
  auto complete = [&out](const char* key, Json value) {
    if (!out.contains(key)) out[key] = std::move(value);
  };
  complete("torch_dtype", torch_name(config.dtype));
  out["rope_theta"] = config.rope.theta;
  const bool has_scaling = out.contains("rope_scaling") && !out["rope_scaling"].empty();
  if (config.rope.scaling != RopeScaling::none && !has_scaling) out["rope_scaling"] = out["rope_parameters"];
  complete("rms_norm_eps", config.rms_norm_eps);
  complete("initializer_range", config.initializer_range);
  complete("hidden_act", "silu");
  return out.dump(2) + "\n";
}

}  // namespace finermoe
