#include "cpu/cpu_backend.h"

#include <algorithm>
#include <atomic>

#include "backend/select_experts.h"
#include "base/cpu_features.h"

namespace finermoe {
namespace {

constexpr size_t rows_per_light_task = 32;  // rows of an elementwise operation

struct NamedKernels {
  const char* name;
  const Kernels& kernels;
};

NamedKernels named_kernels_of(int32_t isa) {
#if defined(__x86_64__)
  if (isa == FINERMOE_ISA_AVX512) return {"avx512", avx512::kernels};
  if (isa == FINERMOE_ISA_AVX2 && detect_cpu_features().avx_vnni) return {"avx2-vnni", avx2_vnni::kernels};
  if (isa == FINERMOE_ISA_AVX2) return {"avx2", avx2::kernels};
#endif
  (void)isa;
  return {"portable", portable::kernels};
}

}  // namespace

const Kernels& kernels_of(int32_t isa) { return named_kernels_of(isa).kernels; }
const char* kernels_name(int32_t isa) { return named_kernels_of(isa).name; }

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
  const uint64_t offset = is_blocked(matrix.dtype) ? matrix_bytes(matrix.dtype, begin, matrix.columns)
                                                   : begin * matrix.columns * size_of(matrix.dtype);
  return {matrix.data + offset, matrix.dtype, count, matrix.columns};
}

uint64_t workspace_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) {
  return CpuWorkspace::bytes(config, n_rows, n_positions, n_threads);
}

Result<std::unique_ptr<Workspace>> CpuBackend::make_workspace(const Config& config, size_t n_rows, uint64_t n_positions,
                                                              std::shared_ptr<MemoryAccount> account) const {
  FM_ASSIGN(auto workspace, CpuWorkspace::make(config, n_rows, n_positions, pool_->n_threads(), std::move(account)));
  return std::unique_ptr<Workspace>(std::move(workspace));
}

// A task should last 3 microseconds or more, and there should be twelve for each thread where that allows it. The rate
// is that of reading the weights for few vectors, and of arithmetic for many.
size_t CpuBackend::rows_per_task(const WeightView& weight, size_t n, size_t copies) const {
  constexpr double least_ns = 3'000, bytes_per_ns = 16, products_per_ns = 60;
  const double bytes = static_cast<double>(matrix_bytes(weight.dtype, panel_rows, weight.columns)) / panel_rows;
  const double row_ns = std::max(bytes / bytes_per_ns, static_cast<double>(weight.columns * n) / products_per_ns);
  const size_t least = static_cast<size_t>(least_ns / row_ns);
  const size_t wanted = ceil_div(weight.rows * copies, size_t{12} * pool_->n_threads());
  return std::min<size_t>(ceil_div(std::max({least, wanted, size_t{1}}), tile_outputs) * tile_outputs, max_task_rows);
}

CpuBackend::Inputs CpuBackend::inputs_of(const float* x, size_t n, uint64_t columns,
                                         std::initializer_list<DType> weights, Precision precision,
                                         CpuWorkspace& scratch) {
  Inputs inputs{x, columns, {}};
  if (precision == Precision::exact) return inputs;
  const size_t row_bytes = narrowed_row_bytes(columns);
  for (DType dtype : weights) {
    if (!kernels_.narrows(dtype) || is_narrowed(inputs, dtype)) continue;
    std::byte* rows = scratch.inputs[is_blocked(dtype)];
    pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
      for (size_t i = task * rows_per_light_task; i < std::min(n, (task + 1) * rows_per_light_task); i++) {
        kernels_.narrow_activations(x + i * columns, dtype, columns, 0, columns, rows + i * row_bytes);
      }
    });
    inputs.narrowed[is_blocked(dtype)] = rows;
  }
  return inputs;
}

const void* CpuBackend::input_row(const Inputs& inputs, DType weights, size_t row) const {
  if (!is_narrowed(inputs, weights)) return inputs.rows + row * inputs.columns;
  return inputs.narrowed[is_blocked(weights)] + row * narrowed_row_bytes(inputs.columns);
}

void CpuBackend::multiply(const Inputs& inputs, const WeightView& weight, size_t n, bool accumulate, float* out,
                          CpuWorkspace& scratch, Order order) {
  const size_t n_chunks = ceil_div(n, matmul_max_vectors), chunk = ceil_div(n, n_chunks);
  const size_t block = rows_per_task(weight, chunk, n_chunks);
  pool_->run(n_chunks * ceil_div(weight.rows, block), [&](size_t task, size_t worker) {
    const size_t first = task % n_chunks * chunk, count = std::min(chunk, n - first);
    const size_t row = task / n_chunks * block;
    const void* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = input_row(inputs, weight.dtype, first + i);
      out_rows[i] = out + (first + i) * weight.rows + row;
    }
    const WeightView rows = rows_of(weight, row, std::min(block, weight.rows - row));
    kernels_.matmul({x_rows, is_narrowed(inputs, weight.dtype), out_rows, count, rows.data, rows.dtype, rows.rows,
                     rows.columns, accumulate, scratch.matmul(worker), order == Order::one});
  });
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
      const auto token = static_cast<uint64_t>(tokens[i]);
      float* place = out + i * table.columns;
      if (is_blocked(table.dtype)) {
        const size_t row = token % panel_rows;
        decode_row(table.dtype, rows_of(table, token - row, panel_rows).data, row, {place, table.columns});
      } else {
        kernels_.widen(rows_of(table, token, 1).data, table.dtype, table.columns, place);
      }
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
  const Inputs inputs = inputs_of(x, n, weight.columns, {weight.dtype}, scratch.precision, scratch);
  multiply(inputs, weight, n, accumulate, out, scratch);
  return {};
}

Status CpuBackend::route(const float* x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                         const Route& route, Workspace& workspace) {
  auto& scratch = static_cast<CpuWorkspace&>(workspace);
  const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
  if (n == 0) return {};
  const Inputs inputs{x, weights.gate.columns, {}};  // in float32 at any precision
  multiply(inputs, weights.gate, n, false, route.logits, scratch, Order::one);
  if (shape.separate) multiply(inputs, weights.concat_gate, n, false, scratch.group_scores, scratch, Order::one);

  auto group_scores = [&](size_t row) {
    return shape.separate ? scratch.group_scores + row * shape.n_groups() : nullptr;
  };
  std::atomic<size_t> failed_row{n};  // the first one
  pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t row = task * rows_per_light_task; row < std::min(n, (task + 1) * rows_per_light_task); row++) {
      const float* logits = route.logits + row * n_experts;
      if (!are_finite(shape, logits, group_scores(row))) {
        for (size_t seen = failed_row; row < seen && !failed_row.compare_exchange_weak(seen, row);) continue;
        route.experts[row * k] = -1;
        continue;
      }
      select_experts(shape, logits, group_scores(row), route.experts + row * k, route.weights + row * k,
                     route.groups == nullptr ? nullptr : route.groups + row * shape.granularity_output);
    }
  });
  if (failed_row == n) return {};
  return check_logits(shape, failed_row, route.logits + failed_row * n_experts, group_scores(failed_row));
}

}  // namespace finermoe
