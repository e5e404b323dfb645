// config.json, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/dtype.h"
#include "base/status.h"
#include "format/quantization.h"
#include "format/rope.h"

namespace finermoe {

enum class ModelType { finer_moe, qwen2, qwen2_moe };

// How the router turns logits into experts (docs/finermoe-layer.md, sections 3 and 4).
struct RouterShape {
  uint64_t granularity_inter = 0;   // G_I
  uint64_t expansion_inter = 0;     // R_I
  uint64_t granularity_output = 0;  // G_O
  uint64_t expansion_output = 0;    // R_O
  uint64_t top_inter = 0;           // T_I: experts kept in each group
  bool softmax_over_all = false;    // Qwen2-MoE: weights from a softmax over all logits, not over the survivors
  bool norm_topk_prob = false;      // renormalize the kept weights
  bool separate = false;            // group scores come from concat_gate instead of the sums

  uint64_t group_size() const { return granularity_inter * expansion_inter; }
  uint64_t n_groups() const { return granularity_output * expansion_output; }
  uint64_t n_experts() const { return n_groups() * group_size(); }                 // N (Eq. 5)
  uint64_t n_experts_per_token() const { return granularity_output * top_inter; }  // G_O T_I
  // The output component (slice of the hidden vector) that expert k writes.
  uint64_t component_of(uint64_t expert) const { return expert / (expansion_output * group_size()); }
};

struct TensorSpec;

struct Config {
  ModelType model_type = ModelType::qwen2;
  DType dtype = DType::bf16;       // of most weights that are not in blocks; each tensor has its own
  uint64_t hidden_size = 0;        // h
  uint64_t intermediate_size = 0;  // H
  uint64_t n_layers = 0;
  uint64_t n_heads = 0;
  uint64_t n_kv_heads = 0;
  uint64_t head_size = 0;  // d: h / n_heads, or head_dim
  bool has_qkv_bias = true;
  uint64_t vocab_size = 0;
  uint64_t max_positions = 0;  // including those that a RoPE scaling adds
  double rms_norm_eps = 0;
  Rope rope;
  std::vector<bool> is_sliding_layer;  // [n_layers]
  uint64_t sliding_window = 0;         // positions a row of a sliding layer attends to, itself included; 0: none
  double initializer_range = 0.02;
  bool tied_embeddings = false;
  std::optional<Quantization> quantization;  // if present, matrices may be in block formats
  // The rest concerns MoE layers; router.n_experts() is 0 in a dense model.
  RouterShape router;
  uint64_t expert_width = 0;         // H_e
  uint64_t shared_expert_width = 0;  // 0: no shared expert
  bool has_concat_proj = false;
  std::vector<bool> is_moe_layer;  // [n_layers]

  bool is_moe() const { return router.granularity_output != 0; }
  uint64_t expert_output_width() const { return hidden_size / router.granularity_output; }  // h_e
  uint64_t q_width() const { return n_heads * head_size; }
  uint64_t kv_width() const { return n_kv_heads * head_size; }
  // 0: a row attends to all positions up to its own.
  uint64_t window_of(size_t layer) const { return is_sliding_layer[layer] ? sliding_window : 0; }
  uint64_t n_sliding_layers() const;
  uint64_t n_moe_layers() const;
  // The number of a MoE layer's first expert, counting experts through all layers.
  uint64_t first_expert_of(size_t layer) const;
  const char* model_type_name() const;
  // A tensor's type as far as config.json tells; in an open checkpoint the tensor's own type counts.
  DType type_of(const TensorSpec& spec) const;

  // From the text of a config.json. `name` is used in messages.
  static Result<Config> parse(std::string_view json, std::string_view name);
};

// Parameters in a checkpoint of this configuration: in total, and those one token uses.
struct ParameterCount {
  uint64_t total = 0, active = 0;
};
ParameterCount count_parameters(const Config& config);

}  // namespace finermoe
