// Feed-forward networks of a step.
#include <algorithm>

#include "cuda/cuda_step.h"

namespace finermoe::cuda {
namespace {

Ffn ffn_of(const FfnWeights& weights) {
  return {matrix_of(weights.gate), matrix_of(weights.up), matrix_of(weights.down)};
}

// The type in which tensor cores multiply all of an FFN's matrices; F32 if there is none.
DType operand_of(const FfnWeights& weights) {
  const DType gate = operand_type(weights.gate.dtype);
  const bool is_one = operand_type(weights.up.dtype) == gate && operand_type(weights.down.dtype) == gate;
  return is_one ? gate : DType::f32;
}
// And all matrices of a layer's experts, so that it does not depend on which of them are computed together.
DType operand_of(std::span<const FfnWeights> experts) {
  const DType first = operand_of(experts[0]);
  const bool is_one =
      std::all_of(experts.begin(), experts.end(), [&](const FfnWeights& e) { return operand_of(e) == first; });
  return is_one ? first : DType::f32;
}

}  // namespace

// A table is found again by the addresses of the host's arrays, and written again only if an expert has changed: before
// what the pass has listed, which does not use it yet.
const Ffn* CudaStep::table_of(std::span<const FfnWeights> experts, std::span<const uint32_t> subset) {
  size_t at = 0;
  while (at < tables_.size() && (tables_[at].experts != experts.data() || tables_[at].subset != subset.data())) at++;
  const bool is_new = at == tables_.size();
  if (is_new) at = next_table_++ % tables_.size();
  Ffn* const host = memory_.tables_on_host + at * router_.n_experts();
  Ffn* const table = memory_.tables + at * router_.n_experts();

  bool may_write = false, is_changed = is_new;
  size_t next = 0;
  for (size_t expert = 0; expert < experts.size(); expert++) {
    const bool is_in_subset = next < subset.size() && subset[next] == expert;
    next += is_in_subset;
    const Ffn now = is_in_subset ? ffn_of(experts[expert]) : Ffn{};
    if (host[expert] == now) continue;
    if (!may_write && tables_[at].is_used) {  // a copy from it may be under way
      if (is_listing_) launch_list();
      call_now([&](StreamHandle stream) { return context_->driver().wait_for_stream(stream); });
    }
    may_write = is_changed = true;
    host[expert] = now;
  }
  tables_[at] = {experts.data(), subset.data(), true};
  if (is_changed) {
    call_now([&](StreamHandle stream) {
      return context_->driver().copy_to_device(reinterpret_cast<uintptr_t>(table), host, experts.size() * sizeof(Ffn),
                                               stream);
    });
  }
  return table;
}

void CudaStep::moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
                       const RouterShape& shape, const Route& route, size_t n, bool accumulate, DevicePtr<float> out) {
  if (n == 0) return;
  const WeightView& any_gate = experts[0].gate;  // experts share a shape; their types may differ
  const FfnTask task{.x = x.address(),
                     .n = static_cast<uint32_t>(n),
                     .hidden = static_cast<uint32_t>(any_gate.columns),
                     .width = static_cast<uint32_t>(any_gate.rows),
                     .out_width = static_cast<uint32_t>(experts[0].down.rows),
                     .experts = table_of(experts, subset),
                     .single = {},
                     .n_experts = static_cast<uint32_t>(experts.size()),
                     .experts_per_token = static_cast<uint32_t>(shape.n_experts_per_token()),
                     .chosen = route.experts.address(),
                     .weights = route.weights.address(),
                     .operand = on_tensor_cores_ ? operand_of(experts) : DType::f32,
                     .operands = memory_.operands,
                     .activated = memory_.activated,
                     .expert_begins = memory_.expert_begins,
                     .assignments = memory_.assignments,
                     .places = memory_.places,
                     .tiles = memory_.tiles,
                     .n_tiles = memory_.n_tiles,
                     .products = memory_.products,
                     .accumulate = accumulate,
                     .out = out.address()};
  if (n > most_few_rows) enqueue(enqueue_group, task);
  enqueue(enqueue_activate, task);
  enqueue(enqueue_project, task);
}

void CudaStep::gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                         DevicePtr<float> out) {
  if (n == 0) return;
  const auto rows = static_cast<uint32_t>(n);
  if (scale) {  // in the same order for any number of rows, as a router is
    multiply(x.address(), scale, n, false, true, memory_.gate_scale);
    enqueue(enqueue_sigmoid, rows, memory_.gate_scale);
  }
  const FfnTask task{.x = x.address(),
                     .n = rows,
                     .hidden = static_cast<uint32_t>(weights.gate.columns),
                     .width = static_cast<uint32_t>(weights.gate.rows),
                     .out_width = static_cast<uint32_t>(weights.down.rows),
                     .experts = nullptr,
                     .single = ffn_of(weights),
                     .n_experts = 1,
                     .experts_per_token = 1,
                     .chosen = nullptr,
                     .weights = scale ? memory_.gate_scale : nullptr,
                     .operand = on_tensor_cores_ ? operand_of(weights) : DType::f32,
                     .operands = memory_.operands,
                     .activated = memory_.activated,
                     .expert_begins = nullptr,
                     .assignments = nullptr,
                     .places = nullptr,
                     .tiles = nullptr,
                     .n_tiles = nullptr,
                     .products = nullptr,
                     .accumulate = true,
                     .out = out.address()};
  if (rows <= most_few_rows || task.operand == DType::f32) {
    enqueue(enqueue_activate, task);
    enqueue(enqueue_project, task);
    return;
  }
  const bool is_large = activate_large(x.address(), task);
  if (!is_large) enqueue(enqueue_activate, task);
  auto* const activated = is_large ? memory_.operands : reinterpret_cast<uint16_t*>(memory_.activated);
  const Linear down{nullptr, task.single.down, rows, true, false, activated, out.address()};
  multiply_rounded({&down, 1});
}

bool CudaStep::activate_large(const float* x, const FfnTask& task) {
  const Ffn& ffn = task.single;
  const Linear both[] = {{nullptr, ffn.gate, task.n, false, false, memory_.operands, memory_.activated},
                         {nullptr, ffn.up, task.n, false, false, memory_.operands, memory_.up}};
  if (memory_.up == nullptr || !is_for_blas(both[0]) || !is_for_blas(both[1]) || context_->blas() == nullptr) {
    return false;
  }
  round(x, task.n, task.hidden, task.operand);
  multiply_rounded(both);
  enqueue(enqueue_combine_gate, task, memory_.activated, memory_.up);
  return true;
}

}  // namespace finermoe::cuda
