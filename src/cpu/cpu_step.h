// A pass on the CPU: divides each operation into tasks for the thread pool and hands each task to a kernel.
//
// The bits of a result do not depend on the number of threads: a task owns the output elements that it writes, and a
// kernel gives an element the same bits however the outputs are divided into tasks.
#pragma once

#include <optional>

#include "base/thread_pool.h"
#include "cpu/blas.h"
#include "cpu/cpu_kv_cache.h"
#include "cpu/kernels.h"
#include "cpu/step_memory.h"
#include "cpu/tuning.h"

namespace finermoe {

class CpuStep final : public Step {
 public:
  // What is left to `blas` is computed by it; null: nothing.
  static Result<std::unique_ptr<CpuStep>> make(const Kernels& kernels, const Tuning& tuning, int32_t best_isa,
                                               std::shared_ptr<const Blas> blas, std::shared_ptr<ThreadPool> pool,
                                               const Config& config, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account);

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
  bool choose(DevicePtr<const float>, const WeightView&, size_t, uint64_t, std::span<const TokenChoice>,
              ChosenToken*) override {
    return false;  // logits are in the host's memory anyway
  }
  void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) override;
  void download(DevicePtr<const std::byte> from, std::span<std::byte> to) override;
  Status wait() override { return {}; }  // every operation is done when it returns
  Status row_error(size_t row) const override;
  void end() noexcept override { pool_step_.reset(); }

 private:
  CpuStep(const Kernels& kernels, const Tuning& tuning, std::shared_ptr<const Blas> blas,
          std::shared_ptr<ThreadPool> pool, const Config& config, size_t n_rows, uint64_t n_positions,
          StepMemory memory);

  // Activations of n rows: as floats, and the same rows in each form that the weights need.
  struct Inputs {
    const float* rows;
    size_t n;
    uint64_t columns;
    const std::byte* quantized[2];  // StepMemory::inputs, or null
  };
  // Rows x [n, columns], quantized for weights of these types if the precision is fast.
  Inputs inputs_of(const float* x, size_t n, uint64_t columns, std::initializer_list<DType> weights);
  // In which form weights of this type meet the activations of n rows.
  Form form_of(DType weights, size_t n) const {
    if (precision_ != Precision::fast) return Form::floats;
    return kernels_.fast_form(weights, as_alone_ ? 1 : n, tuning_.bf16_dots);
  }
  Form form_of(const Inputs& inputs, DType weights) const {
    const Form form = form_of(weights, inputs.n);
    return form != Form::floats && inputs.quantized[place_of(form)] != nullptr ? form : Form::floats;
  }
  const void* input_row(const Inputs& inputs, Form form, size_t row) const;

  // The order of summation: the fastest for n rows, or the same for any n.
  enum class Order { fastest, batch_invariant };
  // out [n, rows] (+)= inputs W^T
  void multiply(const Inputs& inputs, const WeightView& weight, size_t n, bool accumulate, float* out,
                Order order = Order::fastest);

  // A task's product: out[i] (+)= W x[i] for n vectors, as they are for weights of this type.
  void multiply_rows(const void* const* x, Form form, float* const* out, size_t n, const WeightView& weight,
                     bool accumulate, size_t worker, Order order = Order::fastest) const;

  // Rows of a weight matrix that one task multiplies with n vectors, if `copies` such matrices are used.
  size_t rows_per_task(const WeightView& weight, size_t n, size_t copies) const;

  // An FFN whose assignments are sorted by expert; one without experts is one group.
  struct GroupedFfn {
    std::span<const FfnWeights> experts;
    std::span<const ExpertGroup> groups;  // ascending by expert
    const Assignment* assignments;
    size_t n;                           // rows of the operation
    uint64_t hidden, width, out_width;  // h, H_e, h_e
    uint64_t experts_per_component;     // expert k adds to slice k / experts_per_component of the output
  };
  std::span<const ExpertGroup> group_by_expert(const RouterShape& shape, std::span<const uint32_t> subset,
                                               const Route& route, size_t n);
  GroupedFfn grouped(std::span<const FfnWeights> experts, std::span<const ExpertGroup> groups, size_t n,
                     uint64_t experts_per_component) const;
  Inputs inputs_of(const float* x, const GroupedFfn& ffn);
  void activate(const Inputs& inputs, const GroupedFfn& ffn);
  void project(const GroupedFfn& ffn, bool accumulate, float* out);

  const CpuKvCache& cache_of(size_t row) const { return *caches_[memory_.sessions[row]]; }
  std::span<AttentionBlock> attention_blocks(const AttentionShape& shape) const;
  void attend(const AttentionBlock& block, size_t split, size_t kv_head, const float* q, const AttentionShape& shape,
              uint64_t layer, float* out, size_t worker) const;
  void merge_splits(const AttentionBlock& block, const AttentionShape& shape, size_t kv_head, float* out) const;

  const Kernels& kernels_;
  const Tuning tuning_;
  const std::shared_ptr<const Blas> blas_;
  const std::shared_ptr<ThreadPool> pool_;
  const Rope rope_;
  const RouterShape router_;
  const uint64_t head_size_, vocab_size_;
  const StepMemory memory_;

  // Of the current pass
  std::optional<ThreadPool::Step> pool_step_;
  Precision precision_ = Precision::exact;
  bool as_alone_ = false;  // RaggedBatch::as_alone
  size_t n_ = 0;           // rows of the batch
  std::vector<const CpuKvCache*> caches_;
};

// Rows [begin, begin + count) of a matrix. Of a blocked one `begin` is the first of a panel.
WeightView rows_of(const WeightView& matrix, uint64_t begin, uint64_t count);

}  // namespace finermoe
