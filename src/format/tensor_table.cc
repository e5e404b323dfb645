// The tensors that a configuration requires (docs/finermoe-layer.md, section 2).
#include "format/tensor_table.h"

namespace finermoe {
namespace {

std::string layer_prefix(int64_t layer) { return format_text("model.layers.", layer, "."); }

std::string ffn_prefix(TensorKind kind, int64_t layer, int64_t expert) {
  if (kind == TensorKind::routed) return format_text(expert_name(layer, expert), ".");
  return format_text(layer_prefix(layer), kind == TensorKind::shared ? "mlp.shared_expert." : "mlp.");
}

std::string_view ffn_ending(TensorRole role) {
  return role == TensorRole::gate ? "gate_proj.weight" : role == TensorRole::up ? "up_proj.weight" : "down_proj.weight";
}

class Visitor {
 public:
  Visitor(const Config& config, FunctionRef<Status(const TensorSpec&)> visit) : config_(config), visit_(visit) {}

  Status all() {
    constexpr std::string_view table = "[vocab_size, hidden_size]";
    FM_TRY(emit(embedding_name, TensorKind::embedding, TensorRole::embedding, config_.vocab_size, h_, table));
    for (uint64_t layer = 0; layer < config_.n_layers; layer++) {
      layer_ = static_cast<int64_t>(layer);
      prefix_ = layer_prefix(layer_);
      FM_TRY(attention());
      FM_TRY(config_.is_moe_layer[layer] ? moe() : dense());
    }
    layer_ = -1;
    prefix_.clear();
    FM_TRY(emit("model.norm.weight", TensorKind::norm, TensorRole::final_norm, h_, 0, "[hidden_size]"));
    if (config_.tied_embeddings) return {};
    return emit(head_name, TensorKind::head, TensorRole::head, config_.vocab_size, h_, table);
  }

 private:
  Status emit(std::string_view name, TensorKind kind, TensorRole role, uint64_t rows, uint64_t columns,
              std::string_view formula) {
    name_.assign(prefix_).append(name);
    return visit_({name_, kind, role, rows, columns, formula, layer_, expert_, expert_of_all_});
  }

  Status attention() {
    constexpr std::string_view heads = "[num_attention_heads * head_size, hidden_size]";
    constexpr std::string_view kv_heads = "[num_key_value_heads * head_size, hidden_size]";
    constexpr std::string_view out = "[hidden_size, num_attention_heads * head_size]";
    const uint64_t q = config_.q_width(), kv = config_.kv_width();
    FM_TRY(norm("input_layernorm.weight", TensorRole::input_norm));
    FM_TRY(emit("self_attn.q_proj.weight", TensorKind::attention, TensorRole::q, q, h_, heads));
    FM_TRY(bias("self_attn.q_proj.bias", TensorRole::q_bias, q, "[num_attention_heads * head_size]"));
    FM_TRY(emit("self_attn.k_proj.weight", TensorKind::attention, TensorRole::k, kv, h_, kv_heads));
    FM_TRY(bias("self_attn.k_proj.bias", TensorRole::k_bias, kv, "[num_key_value_heads * head_size]"));
    FM_TRY(emit("self_attn.v_proj.weight", TensorKind::attention, TensorRole::v, kv, h_, kv_heads));
    FM_TRY(bias("self_attn.v_proj.bias", TensorRole::v_bias, kv, "[num_key_value_heads * head_size]"));
    FM_TRY(emit("self_attn.o_proj.weight", TensorKind::attention, TensorRole::o, h_, q, out));
    return norm("post_attention_layernorm.weight", TensorRole::post_attention_norm);
  }

  Status norm(std::string_view name, TensorRole role) {
    return emit(name, TensorKind::norm, role, h_, 0, "[hidden_size]");
  }

  Status bias(std::string_view name, TensorRole role, uint64_t rows, std::string_view formula) {
    return config_.has_qkv_bias ? emit(name, TensorKind::bias, role, rows, 0, formula) : Status();
  }

  Status dense() {
    return ffn(TensorKind::dense, config_.intermediate_size, "[intermediate_size, hidden_size]", h_,
               "[hidden_size, intermediate_size]");
  }

  // gate, up [width, h], down [out_width, width]
  Status ffn(TensorKind kind, uint64_t width, std::string_view wide, uint64_t out_width, std::string_view tall) {
    prefix_ = ffn_prefix(kind, layer_, expert_);
    for (TensorRole role : ffn_roles) {
      const bool is_down = role == TensorRole::down;
      FM_TRY(
          emit(ffn_ending(role), kind, role, is_down ? out_width : width, is_down ? width : h_, is_down ? tall : wide));
    }
    prefix_ = layer_prefix(layer_);
    return {};
  }

  Status moe() {
    const RouterShape& router = config_.router;
    const uint64_t n_experts = router.n_experts(), n_groups = router.n_groups();
    constexpr std::string_view square = "[hidden_size, hidden_size]";
    FM_TRY(
        emit("mlp.gate.weight", TensorKind::router, TensorRole::router, n_experts, h_, "[num_experts, hidden_size]"));
    if (router.separate) {
      FM_TRY(emit("mlp.concat_gate.weight", TensorKind::concat_gate, TensorRole::concat_gate, n_groups, h_,
                  "[G_O * R_O, hidden_size]"));
    }
    FM_TRY(routed_experts());
    if (config_.has_concat_proj) {
      FM_TRY(emit("mlp.concat_proj.weight", TensorKind::concat_proj, TensorRole::concat_proj, h_, h_, square));
    }
    if (config_.shared_expert_width == 0) return {};
    FM_TRY(ffn(TensorKind::shared, config_.shared_expert_width, "[shared_expert_intermediate_size, hidden_size]", h_,
               "[hidden_size, shared_expert_intermediate_size]"));
    return emit("mlp.shared_expert_gate.weight", TensorKind::shared_gate, TensorRole::shared_gate, 1, h_,
                "[1, hidden_size]");
  }

  Status routed_experts() {
    expert_of_all_ = static_cast<int64_t>(config_.first_expert_of(static_cast<size_t>(layer_)));
    for (uint64_t expert = 0; expert < config_.router.n_experts(); expert++, expert_of_all_++) {
      expert_ = static_cast<int64_t>(expert);
      FM_TRY(ffn(TensorKind::routed, config_.expert_width, "[moe_intermediate_size, hidden_size]",
                 config_.expert_output_width(), "[hidden_size / G_O, moe_intermediate_size]"));
    }
    expert_ = expert_of_all_ = -1;
    return {};
  }

  const Config& config_;
  const FunctionRef<Status(const TensorSpec&)> visit_;
  const uint64_t h_ = config_.hidden_size;
  std::string prefix_, name_;
  int64_t layer_ = -1, expert_ = -1, expert_of_all_ = -1;
};

}  // namespace

Status for_each_tensor(const Config& config, FunctionRef<Status(const TensorSpec&)> visit) {
  return Visitor(config, visit).all();
}

void visit_tensors(const Config& config, FunctionRef<void(const TensorSpec&)> visit) {
  static_cast<void>(for_each_tensor(config, [&](const TensorSpec& spec) {
    visit(spec);
    return Status();
  }));
}

std::string ffn_tensor_name(TensorKind kind, TensorRole role, int64_t layer, int64_t expert) {
  return format_text(ffn_prefix(kind, layer, expert), ffn_ending(role));
}

std::string expert_name(int64_t layer, int64_t expert) {
  return format_text(layer_prefix(layer), "mlp.experts.", expert);
}

}  // namespace finermoe
