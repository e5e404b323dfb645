// The forward pass: from rows of (session, position, token) to logits.
#pragma once

#include <memory>
#include <span>

#include "backend/backend.h"
#include "base/function_ref.h"
#include "format/checkpoint.h"
#include "model/expert_pages.h"
#include "model/weights.h"

namespace finermoe {

// A checkpoint made ready to compute. Immutable; any number of threads may run it at once, each with its own scratch.
struct Model {
  std::shared_ptr<const Checkpoint> checkpoint;
  Config config;
  Weights weights;
  std::shared_ptr<Backend> backend;
  std::shared_ptr<ExpertPages> expert_pages;  // null: the system alone decides which are in memory

  AttentionShape attention_shape(size_t layer) const {
    return {config.hidden_size, config.n_heads, config.n_kv_heads, config.head_size, config.window_of(layer)};
  }
};

// Activations of one step and the backend's own workspace. Used by one step at a time, then by the next.
class Scratch {
 public:
  static uint64_t bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads);
  static Result<std::unique_ptr<Scratch>> make(const Model& model, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account);

  size_t n_rows = 0;         // most rows that a step with it can have
  uint64_t n_positions = 0;  // longest session that it can serve

  float* x = nullptr;                 // [n_rows, h] the residual stream
  float* normed = nullptr;            // [n_rows, h] after a norm
  float* q = nullptr;                 // [n_rows, n_heads * d]
  float* attended = nullptr;          // [n_rows, n_heads * d]
  float* routed = nullptr;            // [n_rows, h] concatenated experts, where a concat projection follows
  float* rope_frequencies = nullptr;  // [d / 2]
  float* rope_cos = nullptr;          // [n_rows, d / 2]
  float* rope_sin = nullptr;
  Route route;                     // [n_rows, …]
  int32_t* run_experts = nullptr;  // [n_rows, k] those of the route that are used together, -1 in place of others
  std::unique_ptr<Workspace> workspace;

 private:
  struct Layout;
  Buffer buffer_;
};

// What the forward pass tells, and asks, on its way.
struct ForwardHooks {
  // Before each layer: anything but ok stops the pass and is returned.
  FunctionRef<Status()> go_on;
  // After the router of a MoE layer: the model's own layer index, and what it decided for the n rows.
  FunctionRef<void(size_t layer, const Route& route, size_t n)> routed;
};

// What a pass gives of some of its rows.
struct Readout {
  // Some of the read-out rows [begin, end): their logits [end - begin, vocab].
  using LogitsBlock = FunctionRef<void(size_t begin, size_t end, const float* logits)>;

  std::span<const size_t> rows = {};          // indices into the batch, ascending
  float* hidden = nullptr;                    // [rows, h] after the last norm, or null: not wanted
  float* logits = nullptr;                    // [rows, vocab], or null: not computed
  const LogitsBlock* logits_block = nullptr;  // told the logits of logits_block_rows at a time, for which `logits`
  size_t logits_block_rows = 0;               //   has room, where not all can be held at once
};

// Computes all rows, and writes their keys and values into the caches.
Status forward(const Model& model, RaggedBatch batch, const Readout& readout, Scratch& scratch,
               const ForwardHooks& hooks);

// One MoE layer (docs/finermoe-layer.md, section 3): x += moe(normed).     x, normed [n, h]
Status moe_layer(const Model& model, const MoeWeights& weights, size_t n, Scratch& scratch);

}  // namespace finermoe
