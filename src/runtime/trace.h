// What the router did, token by token: routes, logits, usage and balance.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "base/allocation.h"
#include "format/config.h"
#include "runtime/exclusive_use.h"

namespace finermoe {

class LoadedModel;

// Used by one thread at a time. A step records layer by layer and then commits or rolls back, so that only complete
// tokens are recorded.
class Trace {
 public:
  static Result<std::shared_ptr<Trace>> create(const Config& config, uint32_t what,
                                               std::shared_ptr<MemoryAccount> account);
  ~Trace();

  std::shared_ptr<const LoadedModel> model;  // the model whose sessions it may record
  UseState use;                              // held by a step while it records, and by readers
  std::atomic<bool> is_recording{false};     // a session has it

  // Makes room for n more tokens, those of a session from `position` on, counted against the memory limit. Can be
  // rolled back even after an error.
  Status begin(size_t position, size_t n);
  // Rows [first, first + n) of a step's route in a MoE layer. Allocates nothing.
  void record(size_t moe_layer, const HostRoute& route, size_t first, size_t n);
  void commit();
  void roll_back();
  void clear();

  uint32_t what() const { return what_; }
  size_t n_tokens() const { return n_tokens_; }
  const RouterShape& shape() const { return shape_; }
  const std::vector<size_t>& layers() const { return layer_indices_; }

  struct Layer {
    std::vector<int32_t> experts;     // [tokens, k]
    std::vector<float> weights;       // [tokens, k]
    std::vector<int32_t> groups;      // [tokens, G_O]
    std::vector<float> logits;        // [tokens, N]
    std::vector<uint64_t> usage;      // [N] how often chosen
    std::vector<double> probability;  // [N] sum over tokens of softmax over all N logits
    // of the step in progress
    std::vector<uint64_t> step_usage;
    std::vector<double> step_probability;
  };
  const Layer& layer(size_t moe_layer) const { return recorded_[moe_layer]; }
  // [n_tokens] positions in their session; empty if no rows are recorded.
  const std::vector<size_t>& positions() const { return positions_; }
  bool records_rows() const { return (what_ & (FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS)) != 0; }

 private:
  Trace() = default;
  uint64_t bytes_per_token() const;
  void forget_step();

  uint32_t what_ = 0;
  RouterShape shape_;
  std::vector<size_t> layer_indices_;  // [n_moe_layers] of the model
  std::vector<Layer> recorded_;        // [n_moe_layers]
  std::vector<size_t> positions_;
  size_t n_tokens_ = 0, n_step_ = 0;
  uint64_t reserved_ = 0;  // bytes charged to the account
  std::shared_ptr<MemoryAccount> account_;
};

}  // namespace finermoe
