#include "cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>

#include "backend/select_experts.h"
#include "base/cpu_features.h"

namespace finermoe {
namespace {

constexpr size_t rows_per_light_task = 32;  // rows of an elementwise operation

size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

const Kernels& kernels_of(int32_t isa) {
#if defined(__x86_64__)
  if (isa == FINERMOE_ISA_AVX512) return avx512::kernels;
  if (isa == FINERMOE_ISA_AVX2) return avx2::kernels;
#endif
  (void)isa;
  return portable::kernels;
}

}  // namespace

Result<int32_t> resolve_isa(int32_t isa) {
  const CpuFeatures features = detect_cpu_features();
  const int32_t best = features.avx512 ? FINERMOE_ISA_AVX512
                       : features.avx2 ? FINERMOE_ISA_AVX2
                                       : FINERMOE_ISA_PORTABLE;
  if (isa == FINERMOE_ISA_AUTO) return best;
  if (isa < FINERMOE_ISA_AUTO || isa > FINERMOE_ISA_AVX512) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the instruction set is not one of FINERMOE_ISA_…",
                  cat("0 to ", FINERMOE_ISA_AVX512 + 0), cat(isa));
  }
  if (isa <= best) return isa;
  const char* names[] = {"", "portable", "AVX2", "AVX-512"};
  return Status(FINERMOE_ERROR_UNSUPPORTED,
                cat("this machine lacks the instruction set ", names[isa], ": it has up to ", names[best]), names[isa],
                names[best]);
}

Result<std::shared_ptr<Backend>> open_backend(const DeviceOptions& options) {
  FM_ASSIGN(int32_t isa, resolve_isa(options.isa));
  return std::shared_ptr<Backend>(std::make_shared<CpuBackend>(kernels_of(isa), options.pool));
}

WeightView rows_of(const WeightView& matrix, uint64_t begin, uint64_t count) {
  return {matrix.data + begin * matrix.columns * size_of(matrix.dtype), matrix.dtype, count, matrix.columns};
}

Matmul matmul_of(const WeightView& weight, const float* const* x, float* const* out, size_t n, bool accumulate,
                 float* scratch) {
  return {x, out, n, weight.data, weight.dtype, weight.rows, weight.columns, accumulate, scratch};
}

uint64_t CpuBackend::workspace_bytes(const Config& config, size_t n_rows, uint64_t) const {
  return CpuWorkspace::bytes(config, n_rows, pool_->n_threads());
}

Result<std::unique_ptr<Workspace>> CpuBackend::make_workspace(const Config& config, size_t n_rows, uint64_t,
                                                              std::shared_ptr<MemoryAccount> account) const {
  FM_ASSIGN(auto workspace, CpuWorkspace::make(config, n_rows, pool_->n_threads(), std::move(account)));
  return std::unique_ptr<Workspace>(std::move(workspace));
}

// A task should last 20 microseconds or more, and there should be four for each thread where that allows it. The rate
// is that of reading two-byte weights for one vector, and of arithmetic for many.
size_t CpuBackend::rows_per_task(uint64_t rows, uint64_t columns, size_t n, size_t copies) const {
  const size_t least_products = 20'000 / 0.12 / std::max(1.0, 0.14 * static_cast<double>(n));
  const size_t least = ceil_div(least_products, columns);
  const size_t wanted = ceil_div(rows * copies, size_t{4} * pool_->n_threads());
  return std::min<size_t>(ceil_div(std::max(least, wanted), tile_outputs) * tile_outputs, max_task_rows);
}

Status CpuBackend::embed(const WeightView& table, std::span<const int32_t> tokens, float* out) {
  for (int32_t token : tokens) {
    if (token < 0 || static_cast<uint64_t>(token) >= table.rows) {
      return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                    cat("token id ", token, " is outside the vocabulary of ", table.rows), cat("0 to ", table.rows - 1),
                    cat(token));
    }
  }
  pool_->run(ceil_div(tokens.size(), rows_per_light_task), [&](size_t task, size_t) {
    const size_t end = std::min(tokens.size(), (task + 1) * rows_per_light_task);
    for (size_t i = task * rows_per_light_task; i < end; i++) {
      const WeightView row = rows_of(table, static_cast<uint64_t>(tokens[i]), 1);
      kernels_.widen(row.data, row.dtype, row.columns, out + i * row.columns);
    }
  });
  return {};
}

Status CpuBackend::rms_norm(const float* x, const WeightView& weight, double eps, size_t n, float* out) {
  pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t i = task * rows_per_light_task; i < std::min(n, (task + 1) * rows_per_light_task); i++) {
      kernels_.rms_norm(x + i * weight.rows, weight.data, weight.dtype, static_cast<float>(eps), weight.rows,
                        out + i * weight.rows);
    }
  });
  return {};
}

Status CpuBackend::linear(const float* x, const WeightView& weight, size_t n, bool accumulate, float* out,
                          Workspace& workspace) {
  if (n == 0) return {};
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  const size_t n_chunks = ceil_div(n, matmul_max_vectors), chunk = ceil_div(n, n_chunks);
  const size_t block = rows_per_task(weight.rows, weight.columns, chunk, n_chunks);
  pool_->run(n_chunks * ceil_div(weight.rows, block), [&](size_t task, size_t worker) {
    const size_t first = task % n_chunks * chunk, count = std::min(chunk, n - first);
    const size_t row = task / n_chunks * block;
    const float* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = x + (first + i) * weight.columns;
      out_rows[i] = out + (first + i) * weight.rows + row;
    }
    const WeightView rows = rows_of(weight, row, std::min(block, weight.rows - row));
    kernels_.matmul(matmul_of(rows, x_rows, out_rows, count, accumulate, scratch.matmul(worker)));
  });
  return {};
}

Status CpuBackend::route(const float* x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                         const Route& route, Workspace& workspace) {
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
  FM_TRY(linear(x, weights.gate, n, false, route.logits, workspace));
  if (shape.separate) FM_TRY(linear(x, weights.concat_gate, n, false, scratch.group_scores, workspace));

  auto group_scores = [&](size_t row) {
    return shape.separate ? scratch.group_scores + row * shape.n_groups() : nullptr;
  };
  std::atomic<size_t> failed_row{n};  // the first one
  pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t row = task * rows_per_light_task; row < std::min(n, (task + 1) * rows_per_light_task); row++) {
      const float* logits = route.logits + row * n_experts;
      if (!check_logits(shape, row, logits, group_scores(row)).ok()) {
        for (size_t seen = failed_row; row < seen && !failed_row.compare_exchange_weak(seen, row);) continue;
        return;
      }
      select_experts(shape, logits, group_scores(row), route.experts + row * k, route.weights + row * k,
                     route.groups == nullptr ? nullptr : route.groups + row * shape.granularity_output);
    }
  });
  if (failed_row == n) return {};
  return check_logits(shape, failed_row, route.logits + failed_row * n_experts, group_scores(failed_row));
}

}  // namespace finermoe
