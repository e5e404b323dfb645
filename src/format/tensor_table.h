// The table of tensors: every tensor of a checkpoint, with its name, its role and its shape.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/function_ref.h"
#include "base/status.h"
#include "format/config.h"

namespace finermoe {

// What a tensor is for; the plan and the quantization policy depend on it.
enum class TensorKind {
  embedding,
  head,
  attention,
  norm,
  bias,
  dense,
  shared,
  shared_gate,
  routed,
  router,
  concat_gate,
  concat_proj
};

// Which tensor of its layer, or which part of its FFN, it is. A kind and a role together name a tensor of a layer.
enum class TensorRole {
  embedding,
  input_norm,
  q,
  q_bias,
  k,
  k_bias,
  v,
  v_bias,
  o,
  post_attention_norm,
  gate,  // gate, up, down: of an FFN, which the kind identifies (dense, shared, routed)
  up,
  down,
  router,
  concat_gate,
  concat_proj,
  shared_gate,
  final_norm,
  head
};

// The matrices of an FFN.
inline constexpr TensorRole ffn_roles[] = {TensorRole::gate, TensorRole::up, TensorRole::down};

inline constexpr std::string_view embedding_name = "model.embed_tokens.weight", head_name = "lm_head.weight";

// Whether a tensor of this kind may be in a block format: all matrices except routers and gates.
constexpr bool can_be_blocked(TensorKind kind) {
  return kind == TensorKind::embedding || kind == TensorKind::head || kind == TensorKind::attention ||
         kind == TensorKind::dense || kind == TensorKind::shared || kind == TensorKind::routed ||
         kind == TensorKind::concat_proj;
}

struct TensorSpec {
  std::string_view name;  // "model.layers.3.mlp.gate.weight"; valid during the visit
  TensorKind kind;
  TensorRole role;
  uint64_t rows = 0;  // a vector has `rows` elements and columns 0
  uint64_t columns = 0;
  std::string_view formula;    // "[num_experts, hidden_size]", for messages
  int64_t layer = -1;          // -1: outside the layers
  int64_t expert = -1;         // within the layer; -1: not of a routed expert
  int64_t expert_of_all = -1;  // the same among the experts of all layers
  uint64_t elements() const { return rows * (columns ? columns : 1); }
};

// Every tensor of a checkpoint of this configuration, in the order of the forward pass. A tied head is not visited.
// Stops at the first error.
Status for_each_tensor(const Config& config, FunctionRef<Status(const TensorSpec&)> visit);
// The same for a visitor without errors.
void visit_tensors(const Config& config, FunctionRef<void(const TensorSpec&)> visit);

// The name of an FFN's matrix; `kind` is dense, shared or routed, and only routed ones have an expert.
std::string ffn_tensor_name(TensorKind kind, TensorRole role, int64_t layer, int64_t expert = -1);
// "model.layers.3.mlp.experts.5", the prefix of the names of an expert's matrices.
std::string expert_name(int64_t layer, int64_t expert);

}  // namespace finermoe
