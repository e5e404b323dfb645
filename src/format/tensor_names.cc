// The tensors that a configuration asks for (docs/finermoe-layer.md, section 2).
#include "format/config.h"

namespace finermoe {
namespace {

class Visitor {
 public:
  Visitor(const Config& config, FunctionRef<Status(const TensorSpec&)> visit) : config_(config), visit_(visit) {}

  Status all() {
    FM_TRY(
        emit("model.embed_tokens.weight", TensorKind::embedding, config_.vocab_size, h_, "[vocab_size, hidden_size]"));
    for (uint64_t layer = 0; layer < config_.n_layers; layer++) {
      layer_ = static_cast<int64_t>(layer);
      prefix_ = cat("model.layers.", layer, ".");
      FM_TRY(attention());
      FM_TRY(config_.is_moe_layer[layer] ? moe() : dense());
    }
    layer_ = -1;
    prefix_.clear();
    FM_TRY(emit("model.norm.weight", TensorKind::norm, h_, 0, "[hidden_size]"));
    if (config_.tied_embeddings) return {};
    return emit("lm_head.weight", TensorKind::head, config_.vocab_size, h_, "[vocab_size, hidden_size]");
  }

 private:
  Status emit(std::string_view name, TensorKind kind, uint64_t rows, uint64_t columns, std::string_view formula) {
    name_.assign(prefix_).append(name);
    return visit_({name_, kind, rows, columns, formula, layer_, expert_});
  }

  Status attention() {
    constexpr TensorKind matrix = TensorKind::attention, norm = TensorKind::norm;
    constexpr std::string_view heads = "[num_attention_heads * head_size, hidden_size]";
    constexpr std::string_view kv_heads = "[num_key_value_heads * head_size, hidden_size]";
    const uint64_t q = config_.q_width(), kv = config_.kv_width();
    FM_TRY(emit("input_layernorm.weight", norm, h_, 0, "[hidden_size]"));
    FM_TRY(emit("self_attn.q_proj.weight", matrix, q, h_, heads));
    FM_TRY(bias("self_attn.q_proj.bias", q, "[num_attention_heads * head_size]"));
    FM_TRY(emit("self_attn.k_proj.weight", matrix, kv, h_, kv_heads));
    FM_TRY(bias("self_attn.k_proj.bias", kv, "[num_key_value_heads * head_size]"));
    FM_TRY(emit("self_attn.v_proj.weight", matrix, kv, h_, kv_heads));
    FM_TRY(bias("self_attn.v_proj.bias", kv, "[num_key_value_heads * head_size]"));
    FM_TRY(emit("self_attn.o_proj.weight", matrix, h_, q, "[hidden_size, num_attention_heads * head_size]"));
    return emit("post_attention_layernorm.weight", norm, h_, 0, "[hidden_size]");
  }

  Status bias(std::string_view name, uint64_t rows, std::string_view formula) {
    return config_.has_qkv_bias ? emit(name, TensorKind::bias, rows, 0, formula) : Status();
  }

  Status dense() {
    constexpr std::string_view wide = "[intermediate_size, hidden_size]";
    uint64_t width = config_.intermediate_size;
    FM_TRY(emit("mlp.gate_proj.weight", TensorKind::dense, width, h_, wide));
    FM_TRY(emit("mlp.up_proj.weight", TensorKind::dense, width, h_, wide));
    return emit("mlp.down_proj.weight", TensorKind::dense, h_, width, "[hidden_size, intermediate_size]");
  }

  Status moe() {
    const RouterShape& router = config_.router;
    FM_TRY(emit("mlp.gate.weight", TensorKind::router, router.n_experts(), h_, "[num_experts, hidden_size]"));
    if (router.separate) {
      FM_TRY(
          emit("mlp.concat_gate.weight", TensorKind::concat_gate, router.n_groups(), h_, "[G_O * R_O, hidden_size]"));
    }
    FM_TRY(routed_experts());
    if (config_.has_concat_proj) {
      FM_TRY(emit("mlp.concat_proj.weight", TensorKind::concat_proj, h_, h_, "[hidden_size, hidden_size]"));
    }
    if (config_.shared_expert_width == 0) return {};
    constexpr std::string_view wide = "[shared_expert_intermediate_size, hidden_size]";
    constexpr std::string_view tall = "[hidden_size, shared_expert_intermediate_size]";
    uint64_t width = config_.shared_expert_width;
    FM_TRY(emit("mlp.shared_expert.gate_proj.weight", TensorKind::shared, width, h_, wide));
    FM_TRY(emit("mlp.shared_expert.up_proj.weight", TensorKind::shared, width, h_, wide));
    FM_TRY(emit("mlp.shared_expert.down_proj.weight", TensorKind::shared, h_, width, tall));
    return emit("mlp.shared_expert_gate.weight", TensorKind::shared_gate, 1, h_, "[1, hidden_size]");
  }

  Status routed_experts() {
    constexpr std::string_view wide = "[moe_intermediate_size, hidden_size]";
    constexpr std::string_view tall = "[hidden_size / G_O, moe_intermediate_size]";
    const std::string layer_prefix = prefix_;
    uint64_t width = config_.expert_width;
    for (uint64_t expert = 0; expert < config_.router.n_experts(); expert++) {
      expert_ = static_cast<int64_t>(expert);
      prefix_ = cat(layer_prefix, "mlp.experts.", expert, ".");
      FM_TRY(emit("gate_proj.weight", TensorKind::routed, width, h_, wide));
      FM_TRY(emit("up_proj.weight", TensorKind::routed, width, h_, wide));
      FM_TRY(emit("down_proj.weight", TensorKind::routed, config_.expert_output_width(), width, tall));
    }
    expert_ = -1;
    prefix_ = layer_prefix;
    return {};
  }

  const Config& config_;
  const FunctionRef<Status(const TensorSpec&)> visit_;
  const uint64_t h_ = config_.hidden_size;
  std::string prefix_, name_;
  int64_t layer_ = -1, expert_ = -1;
};

}  // namespace

Status for_each_tensor(const Config& config, FunctionRef<Status(const TensorSpec&)> visit) {
  return Visitor(config, visit).all();
}

}  // namespace finermoe
