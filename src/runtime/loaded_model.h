// A model on a runtime: weights and device, its tokenizer, and the scratch that its sessions share.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "model/forward.h"
#include "placement/residency.h"
#include "runtime/exclusive_use.h"
#include "runtime/runtime.h"
#include "runtime/stop_signals.h"
#include "text/tokenizer.h"

namespace finermoe {

struct LoadOptions {
  ResidencyOptions residency;
  std::string expert_device;    // its name; empty: the runtime's, or the CPU for what has no room there
  uint64_t device_weights = 0;  // bytes of the runtime's device; 0: no limit
  uint64_t expert_cache = 0;    // bytes of that device beside them, for experts that are fetched; 0: none is
};

class LoadedModel {
 public:
  static Result<std::shared_ptr<LoadedModel>> load(std::shared_ptr<const Checkpoint> checkpoint,
                                                   std::shared_ptr<Runtime> runtime, const LoadOptions& options,
                                                   const Progress& progress);

  const Model& model() const { return model_; }
  const Config& config() const { return model_.config; }
  // The KV cache of a session of `capacity` positions; `what` names it in errors.
  Result<std::unique_ptr<KvCache>> make_kv_cache(uint64_t capacity, DType dtype, std::string_view what) const;
  // At the first call, which comes before logits are computed, determines which head to use for a tied model that
  // stores one anyway (Checkpoint::resolved_config). Logs the result.
  Status settle_head();
  // Of how many rows all of its devices can compute a pass in which each has the bits that it has alone.
  size_t most_rows_as_alone() const;
  // How many passes of one row follow each other without the host, at most.
  size_t most_passes() const { return most_passes_; }
  uint32_t quantized_dtypes() const;  // of all its devices (Backend::quantized_dtypes)
  const std::shared_ptr<Runtime>& runtime() const { return runtime_; }
  std::atomic<bool> closed{false};
  StopSignals stop_signals() const {
    StopSignals stop(nullptr);
    stop.watch(closed, "model");
    return stop;
  }

  // Parsed at the first call; NO_TOKENIZER for a model without one, or the error of one that cannot be used.
  Result<std::shared_ptr<const Tokenizer>> tokenizer();
  // The same, or null if the files have no usable one: whatever needs no text works without it.
  Result<std::shared_ptr<const Tokenizer>> usable_tokenizer();
  // Ids that a generation must never choose: rows of the vocabulary without a token. Empty without a tokenizer.
  Result<std::vector<int32_t>> padding_ids();

  // What a saved session must match: SHA-256 of the configuration, the tensor table, and the values of norms, biases
  // and routers.
  Result<std::string> fingerprint();

  // Scratch for one step, returned at the end of the lease. If the memory limit allows no more, waits for a step on
  // another thread to end.
  class Lease {
   public:
    Lease(LoadedModel& owner, std::unique_ptr<Scratch> scratch) : owner_(&owner), scratch_(std::move(scratch)) {}
    Lease(Lease&&) noexcept = default;
    ~Lease() {
      if (scratch_) owner_->give_back(std::move(scratch_));
    }
    Scratch& operator*() const { return *scratch_; }

   private:
    LoadedModel* owner_;
    std::unique_ptr<Scratch> scratch_;
  };
  Result<Lease> borrow_scratch(size_t n_rows, uint64_t n_positions, const StopSignals& stop);

 private:
  LoadedModel() = default;
  Result<std::unique_ptr<Scratch>> make_scratch(size_t n_rows, uint64_t n_positions);
  void give_back(std::unique_ptr<Scratch> scratch) noexcept;
  Result<std::string> compute_fingerprint() const;

  std::shared_ptr<Runtime> runtime_;
  Model model_;
  size_t most_passes_ = 1;

  std::mutex head_mutex_;
  std::atomic<bool> head_settled_{false};

  std::mutex text_mutex_;
  std::optional<Result<std::shared_ptr<const Tokenizer>>> tokenizer_;
  std::string fingerprint_;

  std::mutex scratch_mutex_;
  std::condition_variable scratch_returned_;
  std::vector<std::unique_ptr<Scratch>> free_scratch_;
  size_t n_lent_ = 0;
  size_t scratch_rows_ = 0;  // the largest sizes so far: every new scratch has them, if there is room
  uint64_t scratch_positions_ = 0;
};

}  // namespace finermoe
