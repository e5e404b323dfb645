// Feed-forward networks: routed experts, and the dense or shared one as a single group.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_step.h"

namespace finermoe {
namespace {

constexpr uint32_t left_out = UINT32_MAX;

}  // namespace

// Sorts the (token, slot) pairs of a route by expert, tokens ascending; only experts of the subset that were chosen get
// a group.
std::span<const ExpertGroup> CpuStep::group_by_expert(const RouterShape& shape, std::span<const uint32_t> subset,
                                                      const Route& route, size_t n) {
  const uint64_t k = shape.n_experts_per_token();
  const int32_t* experts = route.experts.address();
  uint32_t* ends = memory_.expert_ends;
  std::fill_n(ends, shape.n_experts(), 0u);
  for (size_t i = 0; i < n * k; i++) ends[experts[i]]++;
  uint32_t begin = 0;
  size_t n_groups = 0, next = 0;
  for (uint32_t expert = 0; expert < shape.n_experts(); expert++) {
    const bool is_in_subset = next < subset.size() && subset[next] == expert;
    next += is_in_subset;
    const uint32_t count = ends[expert];
    ends[expert] = is_in_subset ? begin : left_out;  // moves to the end as the pairs are placed
    if (!is_in_subset || count == 0) continue;
    memory_.groups[n_groups++] = {expert, begin, begin + count};
    begin += count;
  }
  for (size_t i = 0; i < n * k; i++) {
    uint32_t& end = ends[experts[i]];
    if (end != left_out) memory_.assignments[end++] = {static_cast<uint32_t>(i / k), route.weights.address()[i]};
  }
  return {memory_.groups, n_groups};
}

// Quantized for every type of the chosen experts' gate and up projections.
CpuStep::Inputs CpuStep::inputs_of(const float* x, const GroupedFfn& ffn) {
  bool plain = false, blocked = false;
  for (const ExpertGroup& group : ffn.groups) {
    for (DType dtype : {ffn.experts[group.expert].gate.dtype, ffn.experts[group.expert].up.dtype}) {
      plain = plain || dtype == DType::bf16;
      blocked = blocked || is_blocked(dtype);
    }
  }
  const DType first = plain ? DType::bf16 : DType::f32, second = blocked ? DType::q8 : DType::f32;
  return inputs_of(x, ffn.n, ffn.hidden, {first, second});
}

// activations[assignment] = weight * SiLU(gate x) * (up x), quantized if that suits the down projection. The weight is
// applied before that projection, so that its outputs are simply added up.
void CpuStep::activate(const Inputs& inputs, const GroupedFfn& ffn) {
  const size_t n_assignments = ffn.groups.empty() ? 0 : ffn.groups.back().end;
  const size_t mean = std::max<size_t>(1, n_assignments / std::max<size_t>(1, ffn.groups.size()));
  const size_t block = std::min(max_task_rows / 2, rows_per_task(ffn.experts[0].gate, 2 * mean, ffn.groups.size()));
  const size_t n_blocks = ceil_div(ffn.width, block);
  pool_->run(ffn.groups.size() * n_blocks, [&](size_t task, size_t worker) {
    const ExpertGroup& group = ffn.groups[task / n_blocks];
    const FfnWeights& weights = ffn.experts[group.expert];
    const size_t row = task % n_blocks * block, n_rows = std::min(block, ffn.width - row);
    const void* x_rows[matmul_max_vectors];
    float *gate_rows[matmul_max_vectors], *up_rows[matmul_max_vectors];
    for (size_t first = group.begin; first < group.end; first += matmul_max_vectors) {
      const size_t count = std::min<size_t>(matmul_max_vectors, group.end - first);
      auto multiply_part = [&](const WeightView& matrix, float* const* out_rows) {
        const Form form = form_of(inputs, matrix.dtype);
        for (size_t i = 0; i < count; i++) {
          x_rows[i] = input_row(inputs, form, ffn.assignments[first + i].token);
        }
        multiply_rows(x_rows, form, out_rows, count, rows_of(matrix, row, n_rows), false, worker);
      };
      const Form form = form_of(weights.down.dtype, ffn.n);
      for (size_t i = 0; i < count; i++) {
        // What is quantized leaves the worker's memory in that form alone.
        float* both = memory_.rows(worker) + i * 2 * n_rows;
        gate_rows[i] = form == Form::floats ? memory_.ffn + (first + i) * ffn.width + row : both;
        up_rows[i] = both + n_rows;
      }
      multiply_part(weights.gate, gate_rows);
      multiply_part(weights.up, up_rows);
      for (size_t i = 0; i < count; i++) {
        kernels_.silu_multiply(gate_rows[i], up_rows[i], ffn.assignments[first + i].weight, n_rows);
        if (form == Form::floats) continue;
        kernels_.quantize_activations(gate_rows[i], form, ffn.width, row, row + n_rows,
                                      memory_.quantized_ffn + (first + i) * quantized_row_bytes(ffn.width));
      }
    }
  });
}

// Adds every assignment's down projection to its slice of the output. A task owns some output columns for all tokens
// and goes through the experts in ascending order, so that the order of summation does not depend on the tasks.
void CpuStep::project(const GroupedFfn& ffn, bool accumulate, float* out) {
  const uint64_t n_components = ffn.hidden / ffn.out_width;
  const size_t n_assignments = ffn.groups.empty() ? 0 : ffn.groups.back().end;
  const size_t block =
      rows_per_task(ffn.experts[0].down, std::max<size_t>(1, n_assignments / n_components), n_components);
  const size_t n_blocks = ceil_div(ffn.out_width, block);
  pool_->run(n_components * n_blocks, [&](size_t task, size_t worker) {
    const size_t component = task / n_blocks, row = task % n_blocks * block;
    const size_t n_rows = std::min(block, ffn.out_width - row);
    float* slice = out + component * ffn.out_width + row;  // of token 0
    for (size_t i = 0; !accumulate && i < ffn.n; i++) std::fill_n(slice + i * ffn.hidden, n_rows, 0.0f);
    const void* in_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    auto is_before = [&](const ExpertGroup& group, uint64_t c) { return group.expert / ffn.experts_per_component < c; };
    auto group = std::lower_bound(ffn.groups.begin(), ffn.groups.end(), component, is_before);
    for (; group != ffn.groups.end() && group->expert / ffn.experts_per_component == component; group++) {
      const WeightView down = rows_of(ffn.experts[group->expert].down, row, n_rows);
      const Form form = form_of(down.dtype, ffn.n);
      for (size_t first = group->begin; first < group->end; first += matmul_max_vectors) {
        const size_t count = std::min<size_t>(matmul_max_vectors, group->end - first);
        for (size_t i = 0; i < count; i++) {
          const size_t assignment = first + i;
          in_rows[i] = form == Form::floats ? static_cast<const void*>(memory_.ffn + assignment * ffn.width)
                                            : memory_.quantized_ffn + assignment * quantized_row_bytes(ffn.width);
          out_rows[i] = slice + ffn.assignments[assignment].token * ffn.hidden;
        }
        multiply_rows(in_rows, form, out_rows, count, down, true, worker);
      }
    }
  });
}

// Experts, or the one FFN of a group, share a shape; their types may differ.
CpuStep::GroupedFfn CpuStep::grouped(std::span<const FfnWeights> experts, std::span<const ExpertGroup> groups, size_t n,
                                     uint64_t experts_per_component) const {
  return {.experts = experts,
          .groups = groups,
          .assignments = memory_.assignments,
          .n = n,
          .hidden = experts[0].gate.columns,
          .width = experts[0].gate.rows,
          .out_width = experts[0].down.rows,
          .experts_per_component = experts_per_component};
}

void CpuStep::moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
                      const RouterShape& shape, const Route& route, size_t n, bool accumulate, DevicePtr<float> out) {
  if (n == 0) return;
  const uint64_t experts_per_component = shape.expansion_output * shape.group_size();
  const GroupedFfn ffn = grouped(experts, group_by_expert(shape, subset, route, n), n, experts_per_component);
  activate(inputs_of(x.address(), ffn), ffn);
  project(ffn, accumulate, out.address());
}

void CpuStep::gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                        DevicePtr<float> out) {
  if (n == 0) return;
  float* logits = memory_.ffn;  // free until activate()
  if (scale) {                  // in float32 at any precision
    multiply({x.address(), n, scale.columns, {}}, scale, n, false, logits, Order::batch_invariant);
  }
  const DefaultFloatEnvironment environment;
  for (size_t i = 0; i < n; i++) {
    memory_.assignments[i] = {static_cast<uint32_t>(i), scale ? 1.0f / (1.0f + std::exp(-logits[i])) : 1.0f};
  }
  memory_.groups[0] = {0, 0, static_cast<uint32_t>(n)};
  const GroupedFfn ffn = grouped({&weights, 1}, {memory_.groups, 1}, n, 1);
  activate(inputs_of(x.address(), ffn), ffn);
  project(ffn, true, out.address());
}

}  // namespace finermoe
