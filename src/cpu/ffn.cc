// Feed-forward networks: routed experts, and the dense or shared one as a single group.
#include <algorithm>
#include <cmath>

#include "cpu/cpu_backend.h"

namespace finermoe {
namespace {

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// Sorts the (token, slot) pairs of a route by expert, tokens ascending; only experts that were chosen get a group.
std::span<const ExpertGroup> group_by_expert(const RouterShape& shape, const Route& route, size_t n,
                                             CpuWorkspace& scratch) {
  const uint64_t k = shape.n_experts_per_token(), n_experts = shape.n_experts();
  uint32_t* ends = scratch.expert_ends;
  std::fill_n(ends, n_experts, 0u);
  for (size_t i = 0; i < n * k; i++) ends[route.experts[i]]++;
  uint32_t begin = 0;
  size_t n_groups = 0;
  for (uint32_t expert = 0; expert < n_experts; expert++) {
    const uint32_t count = ends[expert];
    ends[expert] = begin;  // moves to the end as the pairs are placed
    if (count == 0) continue;
    scratch.groups[n_groups++] = {expert, begin, begin + count};
    begin += count;
  }
  for (size_t i = 0; i < n * k; i++) {
    scratch.assignments[ends[route.experts[i]]++] = {static_cast<uint32_t>(i / k), route.weights[i]};
  }
  return {scratch.groups, n_groups};
}

}  // namespace

// activations[assignment] = weight * SiLU(gate x) * (up x); the factor goes in here, before the down projection, so
// that the projection is a plain sum.
void CpuBackend::activate(const float* x, const GroupedFfn& ffn, CpuWorkspace& scratch) {
  const size_t n_assignments = ffn.groups.empty() ? 0 : ffn.groups.back().end;
  const size_t mean = std::max<size_t>(1, n_assignments / std::max<size_t>(1, ffn.groups.size()));
  const size_t block = rows_per_task(ffn.width, 2 * ffn.hidden, mean, ffn.groups.size());
  const size_t n_blocks = ceil_div(ffn.width, block);
  pool_->run(ffn.groups.size() * n_blocks, [&](size_t task, size_t worker) {
    const ExpertGroup& group = ffn.groups[task / n_blocks];
    const FfnWeights& weights = ffn.experts[group.expert];
    const size_t row = task % n_blocks * block, n_rows = std::min(block, ffn.width - row);
    const WeightView gate = rows_of(weights.gate, row, n_rows), up = rows_of(weights.up, row, n_rows);
    const float* x_rows[matmul_max_vectors];
    float *gate_rows[matmul_max_vectors], *up_rows[matmul_max_vectors];
    for (size_t first = group.begin; first < group.end; first += matmul_max_vectors) {
      const size_t count = std::min<size_t>(matmul_max_vectors, group.end - first);
      for (size_t i = 0; i < count; i++) {
        x_rows[i] = x + ffn.assignments[first + i].token * ffn.hidden;
        gate_rows[i] = scratch.activations + (first + i) * ffn.width + row;
        up_rows[i] = scratch.rows(worker) + i * n_rows;
      }
      kernels_.matmul(matmul_of(gate, x_rows, gate_rows, count, false, scratch.matmul(worker)));
      kernels_.matmul(matmul_of(up, x_rows, up_rows, count, false, scratch.matmul(worker)));
      for (size_t i = 0; i < count; i++) {
        kernels_.silu_multiply(gate_rows[i], up_rows[i], ffn.assignments[first + i].weight, n_rows);
      }
    }
  });
}

// Adds every assignment's down projection to its slice of the output. A task owns some output columns for all tokens
// and goes through the experts in ascending order, so the sums have one order whoever computes them.
void CpuBackend::project(const GroupedFfn& ffn, size_t n, bool accumulate, float* out, CpuWorkspace& scratch) {
  const uint64_t n_components = ffn.hidden / ffn.out_width;
  const size_t n_assignments = ffn.groups.empty() ? 0 : ffn.groups.back().end;
  const size_t block =
      rows_per_task(ffn.out_width, ffn.width, std::max<size_t>(1, n_assignments / n_components), n_components);
  const size_t n_blocks = ceil_div(ffn.out_width, block);
  pool_->run(n_components * n_blocks, [&](size_t task, size_t worker) {
    const size_t component = task / n_blocks, row = task % n_blocks * block;
    const size_t n_rows = std::min(block, ffn.out_width - row);
    float* slice = out + component * ffn.out_width + row;  // of token 0
    for (size_t i = 0; !accumulate && i < n; i++) std::fill_n(slice + i * ffn.hidden, n_rows, 0.0f);
    const float* in_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    auto is_before = [&](const ExpertGroup& group, uint64_t c) { return group.expert / ffn.experts_per_component < c; };
    auto group = std::lower_bound(ffn.groups.begin(), ffn.groups.end(), component, is_before);
    for (; group != ffn.groups.end() && group->expert / ffn.experts_per_component == component; group++) {
      const WeightView down = rows_of(ffn.experts[group->expert].down, row, n_rows);
      for (size_t first = group->begin; first < group->end; first += matmul_max_vectors) {
        const size_t count = std::min<size_t>(matmul_max_vectors, group->end - first);
        for (size_t i = 0; i < count; i++) {
          in_rows[i] = scratch.activations + (first + i) * ffn.width;
          out_rows[i] = slice + ffn.assignments[first + i].token * ffn.hidden;
        }
        kernels_.matmul(matmul_of(down, in_rows, out_rows, count, true, scratch.matmul(worker)));
      }
    }
  });
}

Status CpuBackend::moe_ffn(const float* x, std::span<const FfnWeights> experts, const RouterShape& shape,
                           const Route& route, size_t n, bool accumulate, float* out, Workspace& workspace) {
  if (n == 0) return {};
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  GroupedFfn ffn;
  ffn.experts = experts;
  ffn.groups = group_by_expert(shape, route, n, scratch);
  ffn.assignments = scratch.assignments;
  ffn.hidden = experts[0].gate.columns;
  ffn.width = experts[0].gate.rows;
  ffn.out_width = experts[0].down.rows;
  ffn.experts_per_component = shape.expansion_output * shape.group_size();
  activate(x, ffn, scratch);
  project(ffn, n, accumulate, out, scratch);
  return {};
}

Status CpuBackend::gated_ffn(const float* x, const FfnWeights& weights, const WeightView& scale, size_t n, float* out,
                             Workspace& workspace) {
  if (n == 0) return {};
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  float* logits = scratch.activations;  // free until activate()
  if (scale) FM_TRY(linear(x, scale, n, false, logits, workspace));
  DefaultFloatEnvironment environment;
  for (size_t i = 0; i < n; i++) {
    scratch.assignments[i] = {static_cast<uint32_t>(i), scale ? 1.0f / (1.0f + std::exp(-logits[i])) : 1.0f};
  }
  scratch.groups[0] = {0, 0, static_cast<uint32_t>(n)};
  GroupedFfn ffn;
  ffn.experts = {&weights, 1};
  ffn.groups = {scratch.groups, 1};
  ffn.assignments = scratch.assignments;
  ffn.hidden = weights.gate.columns;
  ffn.width = weights.gate.rows;
  ffn.out_width = weights.down.rows;
  ffn.experts_per_component = 1;
  activate(x, ffn, scratch);
  project(ffn, n, true, out, scratch);
  return {};
}

}  // namespace finermoe
