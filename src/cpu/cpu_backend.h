// The CPU backend: divides each operation into tasks for the thread pool and hands each task to a kernel.
//
// The bits of a result do not depend on the number of threads: a task owns the output elements that it writes, and a
// kernel gives an element the same bits however the outputs are divided into tasks.
#pragma once

#include "backend/backend.h"
#include "cpu/kernels.h"
#include "cpu/workspace.h"

namespace finermoe {

class CpuBackend final : public Backend {
 public:
  CpuBackend(const Kernels& kernels, std::shared_ptr<ThreadPool> pool) : kernels_(kernels), pool_(std::move(pool)) {}

  Result<std::unique_ptr<Workspace>> make_workspace(const Config& config, size_t n_rows, uint64_t n_positions,
                                                    std::shared_ptr<MemoryAccount> account) const override;
  Status embed(const WeightView& table, std::span<const int32_t> tokens, float* out) override;
  Status rms_norm(const float* x, const WeightView& weight, double eps, size_t n, float* out) override;
  Status qkv(const float* x, const QkvWeights& weights, const AttentionShape& shape, const RaggedBatch& batch,
             uint64_t layer, float* q_out, Workspace& workspace) override;
  Status attention(const float* q, const AttentionShape& shape, const RaggedBatch& batch, uint64_t layer, float* out,
                   Workspace& workspace) override;
  Status linear(const float* x, const WeightView& weight, size_t n, bool accumulate, float* out,
                Workspace& workspace) override;
  Status route(const float* x, const RouterWeights& weights, const RouterShape& shape, size_t n, const Route& route,
               Workspace& workspace) override;
  Status moe_ffn(const float* x, std::span<const FfnWeights> experts, const RouterShape& shape, const Route& route,
                 size_t n, bool accumulate, float* out, Workspace& workspace) override;
  Status gated_ffn(const float* x, const FfnWeights& weights, const WeightView& scale, size_t n, float* out,
                   Workspace& workspace) override;

 private:
  // The inputs of products with some weights: rows of floats, and the same narrowed for each kind of weights that
  // wants that.
  struct Inputs {
    const float* rows;
    uint64_t columns;
    const std::byte* narrowed[2];  // CpuWorkspace::inputs, or null
  };
  // Narrows rows x [n, columns] for weights of these types, where the step is to be fast.
  Inputs inputs_of(const float* x, size_t n, uint64_t columns, std::initializer_list<DType> weights,
                   Precision precision, CpuWorkspace& workspace);
  bool is_narrowed(const Inputs& inputs, DType weights) const {
    return kernels_.narrows(weights) && inputs.narrowed[is_blocked(weights)] != nullptr;
  }
  const void* input_row(const Inputs& inputs, DType weights, size_t row) const;

  // Of a product's sums: the fastest for n rows, or one for any n, so that a row has the same bits in any company.
  enum class Order { fastest, one };
  // out [n, rows] (+)= inputs W^T
  void multiply(const Inputs& inputs, const WeightView& weight, size_t n, bool accumulate, float* out,
                CpuWorkspace& workspace, Order order = Order::fastest);

  // Rows of a weight matrix that one task multiplies with n vectors, when `copies` such matrices are used.
  size_t rows_per_task(const WeightView& weight, size_t n, size_t copies) const;

  // An FFN whose assignments are sorted by expert; one without experts is one group.
  struct GroupedFfn {
    std::span<const FfnWeights> experts;
    std::span<const ExpertGroup> groups;  // ascending by expert
    const Assignment* assignments;
    uint64_t hidden, width, out_width;  // h, H_e, h_e
    uint64_t experts_per_component;     // expert k adds to slice k / experts_per_component of the output
    Precision precision;
  };
  GroupedFfn grouped(std::span<const FfnWeights> experts, std::span<const ExpertGroup> groups,
                     uint64_t experts_per_component, const CpuWorkspace& workspace) const;
  Inputs inputs_of(const float* x, size_t n, const GroupedFfn& ffn, CpuWorkspace& workspace);
  bool narrows(const GroupedFfn& ffn, DType weights) const;
  void activate(const Inputs& inputs, const GroupedFfn& ffn, CpuWorkspace& workspace);
  void project(const GroupedFfn& ffn, size_t n, bool accumulate, float* out, CpuWorkspace& workspace);

  std::span<AttentionBlock> attention_blocks(const AttentionShape& shape, const RaggedBatch& batch,
                                             CpuWorkspace& workspace) const;
  void attend(const AttentionBlock& block, size_t part, size_t kv_head, const float* q, const AttentionShape& shape,
              const RaggedBatch& batch, uint64_t layer, float* out, CpuWorkspace& workspace, size_t worker) const;
  void join_parts(const AttentionBlock& block, const AttentionShape& shape, size_t kv_head, float* out,
                  const CpuWorkspace& workspace) const;

  const Kernels& kernels_;
  const std::shared_ptr<ThreadPool> pool_;
};

// The kernels of an instruction set; it must be one that this machine has.
const Kernels& kernels_of(int32_t isa);

// Rows [begin, begin + count) of a matrix. Of a blocked one `begin` is the first of a panel.
WeightView rows_of(const WeightView& matrix, uint64_t begin, uint64_t count);

}  // namespace finermoe
