// A pass on a device: enqueues each operation's kernels on a stream of its own.
#pragma once

#include <vector>

#include "cuda/blas_products.h"
#include "cuda/cuda_kv_cache.h"
#include "cuda/step_memory.h"

namespace finermoe::cuda {

class CudaStep final : public Step {
 public:
  // UNSUPPORTED for a model that the kernels do not cover.
  static Result<std::unique_ptr<CudaStep>> make(const std::shared_ptr<const Context>& context, const Config& config,
                                                size_t n_rows, uint64_t n_positions,
                                                std::shared_ptr<MemoryAccount> account);
  ~CudaStep() override { end(); }

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
  void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) override;
  void download(DevicePtr<const std::byte> from, std::span<std::byte> to) override;
  Status wait() override;
  Status row_error(size_t row) const override;
  void end() noexcept override;

 private:
  CudaStep(std::shared_ptr<const Context> context, const Config& config, size_t n_rows, uint64_t n_positions,
           StepMemory memory, Stream stream);

  // Calls `call(stream)`, unless an earlier call failed; wait() returns that first error.
  template <class Call>
  void enqueue(const Call& call) {
    if (code_ == success) code_ = context_->with([&] { return call(stream_.handle()); });
  }
  // out = x W^T of the pass; batch_invariant: at either precision the same, in the same order for any n.
  void multiply(const float* x, const WeightView& weight, size_t n, bool accumulate, bool batch_invariant, float* out);
  bool attends_on_tensors() const { return on_tensor_cores_ && n_ > most_split_rows; }
  // Up to most_products of the same on tensor cores, of x that round() has put into memory_.operands.
  void round(const float* x, size_t n, uint64_t columns, DType type);
  void multiply_rounded(std::span<const Linear> tasks);
  // Gate and up projections of an FFN by cuBLASLt. False, with nothing done, where they are not for it.
  bool activate_large(const float* x, const FfnTask& task);
  void put_attention_rows(const RaggedBatch& batch);
  // A layer's experts on the device; those outside the subset have null data.
  const Ffn* table_of(std::span<const FfnWeights> experts, std::span<const uint32_t> subset);

  // The key of a table: the host's arrays that it was made from.
  struct Table {
    const FfnWeights* experts = nullptr;
    const uint32_t* subset = nullptr;
  };

  const std::shared_ptr<const Context> context_;
  const RouterShape router_;
  const uint64_t head_size_, vocab_size_;
  const uint32_t queries_per_key_;  // query heads that share a key-value head
  const float attention_factor_;    // of the rotary cosines and sines
  const StepMemory memory_;
  const Stream stream_;
  std::vector<float> frequencies_;  // [d / 2] rotary
  std::vector<Table> tables_;
  size_t next_table_ = 0;  // to be written
  BlasProducts blas_products_;

  // Of the pass under way
  Code code_ = success;
  size_t n_ = 0;                  // rows of the batch
  bool on_tensor_cores_ = false;  // products and attention of many rows
  uint32_t n_attention_blocks_ = 0;
};

// As kernels take it.
Matrix matrix_of(const WeightView& view);

}  // namespace finermoe::cuda
