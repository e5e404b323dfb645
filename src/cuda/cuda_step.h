// A pass on a device: enqueues each operation's kernels on a stream of its own.
#pragma once

#include <vector>

#include "cuda/blas_products.h"
#include "cuda/cuda_kv_cache.h"
#include "cuda/graphs.h"
#include "cuda/step_memory.h"

namespace finermoe::cuda {

class CudaStep final : public Step {
 public:
  // UNSUPPORTED for a model that the kernels do not cover.
  static Result<std::unique_ptr<CudaStep>> make(const std::shared_ptr<const Context>& context, const Config& config,
                                                size_t n_rows, uint64_t n_positions,
                                                std::shared_ptr<MemoryAccount> account);
  ~CudaStep() override { end(); }
  static uint64_t bytes(const Config& config, size_t n_rows, uint64_t n_positions);  // of the device and of the host

  Status begin(const RaggedBatch& batch, Precision precision) override;
  void embed(const WeightView& table, DevicePtr<float> out) override;
  void rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n,
                DevicePtr<float> out) override;
  void qkv(DevicePtr<const float> x, const QkvWeights& weights, const AttentionShape& shape, uint64_t layer,
           DevicePtr<float> q_out) override;
  void attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) override;
  void linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
              DevicePtr<float> out) override;
  void route(DevicePtr<const float> x, const RouterWeights& weights, const RouterShape& shape, size_t n,
             const Route& route) override;
  void moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
               const RouterShape& shape, const Route& route, size_t n, bool accumulate, DevicePtr<float> out) override;
  void gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                 DevicePtr<float> out) override;
  void add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) override;
  void logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) override;
  bool choose(DevicePtr<const float> x, const WeightView& head, size_t n, uint64_t n_choosable,
              std::span<const TokenChoice> choices, ChosenToken* out) override;
  void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) override;
  void download(DevicePtr<const std::byte> from, std::span<std::byte> to) override;
  void wait_for(const CopyQueue& copies) override;
  void next_pass() override;
  Status wait() override;
  Status row_error(size_t row) const override;
  void end() noexcept override;

 private:
  CudaStep(std::shared_ptr<const Context> context, const Config& config, size_t n_rows, uint64_t n_positions,
           StepMemory memory, Stream stream, Event copied, Graphs graphs);

  // Calls `function(stream, arguments…)`, unless an earlier call failed; wait() returns that first error. A pass of few
  // rows lists its calls, and launches them together.
  template <class... Parameters, class... Arguments>
  void enqueue(int (*function)(void* stream, Parameters...), const Arguments&... arguments) {
    if (code_ != success) return;
    if (is_listing_ && !graphs_.has_room()) launch_list();
    if (is_listing_) {
      graphs_.add(function, arguments...);
    } else {
      code_ = context_->with(
          [&] { return function(stream_.handle(), static_cast<std::decay_t<Parameters>>(arguments)...); });
    }
  }
  // Ends the list and launches it; what follows in this pass is launched at once.
  void launch_list();
  // Calls `call(stream)` now: before what is listed.
  template <class Call>
  void call_now(const Call& call) {
    if (code_ == success) code_ = context_->with([&] { return call(stream_.handle()); });
  }
  // Fills the arrays of a pass, on the host.
  void put_pass(const RaggedBatch& batch);
  // out = x W^T of the pass; batch_invariant: at either precision the same, in the same order for any n.
  void multiply(const float* x, const WeightView& weight, size_t n, bool accumulate, bool batch_invariant, float* out);
  bool attends_on_tensors() const { return on_tensor_cores_ && n_ > most_split_rows; }
  // Up to most_products of the same on tensor cores, of x that round() has put into memory_.operands.
  void round(const float* x, size_t n, uint64_t columns, DType type);
  void multiply_rounded(std::span<const Linear> tasks);
  // Gate and up projections of an FFN by cuBLASLt. False, with nothing done, where they are not for it.
  bool activate_large(const float* x, const FfnTask& task);
  void put_attention_rows(const RaggedBatch& batch);
  // Choices of the pass, and of those that follow.
  void put_choices(std::span<const TokenChoice> choices, std::span<const TokenChoice> next, uint64_t vocab_size);
  // A layer's experts on the device; those outside the subset have null data.
  const Ffn* table_of(std::span<const FfnWeights> experts, std::span<const uint32_t> subset);

  struct Table {
    // Its key: the host's arrays that it was made from.
    const FfnWeights* experts = nullptr;
    const uint32_t* subset = nullptr;
    bool is_used = false;  // in this pass
  };
  // What wait() copies out of the staging memory.
  struct Download {
    const std::byte* from;
    std::span<std::byte> to;
  };

  const std::shared_ptr<const Context> context_;
  const RouterShape router_;
  const uint64_t head_size_, vocab_size_;
  const uint32_t queries_per_key_;  // query heads that share a key-value head
  const Rope rope_;
  const StepMemory memory_;
  const Stream stream_;
  const Event copied_;  // what is waited for in a queue of copies
  Graphs graphs_;
  std::vector<float> frequencies_;  // [d / 2] rotary
  std::vector<Table> tables_;
  size_t next_table_ = 0;  // to be written
  BlasProducts blas_products_;

  // Of the pass under way
  Code code_ = success;
  bool is_listing_ = false;
  std::vector<Download> downloads_;
  uint64_t n_staged_ = 0;         // bytes of the staging memory
  size_t n_ = 0;                  // rows of the batch
  size_t n_passes_ = 1;           // of one row
  size_t pass_index_ = 0;         // of these, the one that is being enqueued
  bool on_tensor_cores_ = false;  // products and attention of many rows
  PassArrays pass_, host_pass_;   // on the device, and on the host
  uint32_t n_attention_blocks_ = 0;
};

// As kernels take it.
Matrix matrix_of(const WeightView& view);

}  // namespace finermoe::cuda
