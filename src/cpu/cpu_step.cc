#include "cpu/cpu_step.h"

#include <algorithm>
#include <atomic>
#include <cstring>

#include "backend/select_experts.h"

namespace finermoe {
namespace {

constexpr size_t rows_per_light_task = 32;  // rows of an elementwise operation
constexpr size_t many_vectors = 64;         // of a product that reading its vectors slows down

}  // namespace

CpuStep::CpuStep(const Kernels& kernels, const Tuning& tuning, std::shared_ptr<const Blas> blas,
                 std::shared_ptr<ThreadPool> pool, const Config& config, size_t n_rows, uint64_t n_positions,
                 StepMemory memory)
    : Step(n_rows, n_positions),
      kernels_(kernels),
      tuning_(tuning),
      blas_(std::move(blas)),
      pool_(std::move(pool)),
      rope_(config.rope),
      router_(config.router),
      head_size_(config.head_size),
      vocab_size_(config.vocab_size),
      memory_(std::move(memory)) {
  activations_ = memory_.activations;
  caches_.reserve(n_rows);
  rope_.frequencies(head_size_, {memory_.rope_frequencies, config.head_size / 2});
}

Result<std::unique_ptr<CpuStep>> CpuStep::make(const Kernels& kernels, const Tuning& tuning, int32_t best_isa,
                                               std::shared_ptr<const Blas> blas, std::shared_ptr<ThreadPool> pool,
                                               const Config& config, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account) {
  FM_ASSIGN(auto memory, StepMemory::make(config, n_rows, n_positions, pool->n_threads(), {best_isa, blas != nullptr},
                                          std::move(account)));
  return std::unique_ptr<CpuStep>(
      new CpuStep(kernels, tuning, std::move(blas), std::move(pool), config, n_rows, n_positions, std::move(memory)));
}

Status CpuStep::begin(const RaggedBatch& batch, Precision precision) {
  FM_TRY(batch.check_ids(vocab_size_));
  n_ = batch.n();
  precision_ = precision;
  as_alone_ = batch.as_alone;
  std::copy(batch.tokens.begin(), batch.tokens.end(), memory_.tokens);
  std::copy(batch.positions.begin(), batch.positions.end(), memory_.positions);
  std::copy(batch.sessions.begin(), batch.sessions.end(), memory_.sessions);
  std::fill_n(memory_.not_finite, n_rows(), -1);
  caches_.clear();
  for (const KvCache* cache : batch.caches) caches_.push_back(static_cast<const CpuKvCache*>(cache));

  rope_.rotations({memory_.rope_frequencies, head_size_ / 2}, batch.positions, memory_.rope_cos, memory_.rope_sin);
  pool_step_.emplace(*pool_);
  return {};
}

Status CpuStep::row_error(size_t row) const {
  return memory_.not_finite[row] < 0 ? Status() : not_finite(router_, row, memory_.not_finite[row]);
}

WeightView rows_of(const WeightView& matrix, uint64_t begin, uint64_t count) {
  const uint64_t offset = is_blocked(matrix.dtype) ? matrix_bytes(matrix.dtype, begin, matrix.columns)
                                                   : begin * matrix.columns * size_of(matrix.dtype);
  return {matrix.data + offset, matrix.dtype, count, matrix.columns};
}

// A task should take at least 3 microseconds; if that allows it, there should be twelve for each thread, or three large
// ones. Few vectors are limited by reading the weights, many by arithmetic.
size_t CpuStep::rows_per_task(const WeightView& weight, size_t n, size_t copies) const {
  constexpr double least_ns = 3'000, bytes_per_ns = 16, macs_per_ns = 60;
  const double bytes = static_cast<double>(matrix_bytes(weight.dtype, panel_rows, weight.columns)) / panel_rows;
  const double row_ns = std::max(bytes / bytes_per_ns, static_cast<double>(weight.columns * n) / macs_per_ns);
  const size_t least = static_cast<size_t>(least_ns / row_ns);
  const size_t tasks_per_thread = kernels_.large_tasks && n >= many_vectors ? 3 : 12;
  const size_t wanted = ceil_div(weight.rows * copies, tasks_per_thread * pool_->n_threads());
  const size_t unit = blas_ != nullptr && n_rows() >= blas_least_vectors ? blas_rows : tile_outputs;
  return std::min<size_t>(ceil_div(std::max({least, wanted, size_t{1}}), unit) * unit, max_task_rows);
}

CpuStep::Inputs CpuStep::inputs_of(const float* x, size_t n, uint64_t columns, std::initializer_list<DType> weights) {
  Inputs inputs{x, n, columns, {}};
  const size_t row_bytes = quantized_row_bytes(columns);
  for (DType dtype : weights) {
    const Form form = form_of(dtype, n);
    if (form == Form::floats || inputs.quantized[place_of(form)] != nullptr) continue;
    std::byte* rows = memory_.inputs[place_of(form)];
    pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
      for (size_t i = task * rows_per_light_task; i < std::min(n, (task + 1) * rows_per_light_task); i++) {
        kernels_.quantize_activations(x + i * columns, form, columns, 0, columns, rows + i * row_bytes);
      }
    });
    inputs.quantized[place_of(form)] = rows;
  }
  return inputs;
}

const void* CpuStep::input_row(const Inputs& inputs, Form form, size_t row) const {
  if (form == Form::floats) return inputs.rows + row * inputs.columns;
  return inputs.quantized[place_of(form)] + row * quantized_row_bytes(inputs.columns);
}

void CpuStep::multiply_rows(const void* const* x, Form form, float* const* out, size_t n, const WeightView& weight,
                            bool accumulate, size_t worker, Order order) const {
  const Matmul task{.x = x,
                    .form = form,
                    .out = out,
                    .n = n,
                    .weight = weight.data.address(),
                    .dtype = weight.dtype,
                    .rows = weight.rows,
                    .columns = weight.columns,
                    .accumulate = accumulate,
                    .scratch = memory_.matmul(worker),
                    .batch_invariant = order == Order::batch_invariant,
                    .as_alone = as_alone_,
                    .prefetch = tuning_.prefetch,
                    .rows_side_by_side = tuning_.rows_side_by_side};
  const bool is_for_blas =
      blas_ != nullptr && n >= blas_least_vectors && form == Form::floats && !task.batch_invariant && !task.as_alone;
  if (is_for_blas) {
    blas_->matmul(kernels_, task);
  } else {
    kernels_.matmul(task);
  }
}

void CpuStep::multiply(const Inputs& inputs, const WeightView& weight, size_t n, bool accumulate, float* out,
                       Order order) {
  const size_t n_chunks = ceil_div(n, matmul_max_vectors), chunk = ceil_div(n, n_chunks);
  const size_t block = rows_per_task(weight, chunk, n_chunks);
  const Form form = form_of(inputs, weight.dtype);
  pool_->run(n_chunks * ceil_div(weight.rows, block), [&](size_t task, size_t worker) {
    const size_t first = task % n_chunks * chunk, count = std::min(chunk, n - first);
    const size_t row = task / n_chunks * block;
    const void* x_rows[matmul_max_vectors];
    float* out_rows[matmul_max_vectors];
    for (size_t i = 0; i < count; i++) {
      x_rows[i] = input_row(inputs, form, first + i);
      out_rows[i] = out + (first + i) * weight.rows + row;
    }
    multiply_rows(x_rows, form, out_rows, count, rows_of(weight, row, std::min(block, weight.rows - row)), accumulate,
                  worker, order);
  });
}

void CpuStep::embed(const WeightView& table, DevicePtr<float> out) {
  pool_->run(ceil_div(n_, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t i = task * rows_per_light_task; i < std::min(n_, (task + 1) * rows_per_light_task); i++) {
      const auto token = static_cast<uint64_t>(memory_.tokens[i]);
      float* place = out.address() + i * table.columns;
      if (is_blocked(table.dtype)) {
        const size_t row = token % panel_rows;
        decode_row(table.dtype, rows_of(table, token - row, panel_rows).data.address(), row, {place, table.columns});
      } else {
        kernels_.widen(rows_of(table, token, 1).data.address(), table.dtype, table.columns, place);
      }
    }
  });
}

void CpuStep::rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n, DevicePtr<float> out) {
  pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t i = task * rows_per_light_task; i < std::min(n, (task + 1) * rows_per_light_task); i++) {
      kernels_.rms_norm(x.address() + i * weight.rows, weight.data.address(), weight.dtype, static_cast<float>(eps),
                        weight.rows, out.address() + i * weight.rows);
    }
  });
}

void CpuStep::linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
                     DevicePtr<float> out) {
  if (n == 0) return;
  multiply(inputs_of(x.address(), n, weight.columns, {weight.dtype}), weight, n, accumulate, out.address());
}

void CpuStep::logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) {
  linear(x, head, n, false, DevicePtr(out));
}

void CpuStep::route(DevicePtr<const float> x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                    const Route& route) {
  const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
  if (n == 0) return;
  const Inputs inputs{x.address(), n, weights.gate.columns, {}};  // in float32 at any precision
  multiply(inputs, weights.gate, n, false, route.logits.address(), Order::batch_invariant);
  if (shape.separate) multiply(inputs, weights.concat_gate, n, false, memory_.group_scores, Order::batch_invariant);
  pool_->run(ceil_div(n, rows_per_light_task), [&](size_t task, size_t) {
    for (size_t row = task * rows_per_light_task; row < std::min(n, (task + 1) * rows_per_light_task); row++) {
      const float* logits = route.logits.address() + row * n_experts;
      const float* group_scores = shape.separate ? memory_.group_scores + row * shape.n_groups() : nullptr;
      if (memory_.not_finite[row] < 0) memory_.not_finite[row] = find_not_finite(shape, logits, group_scores);
      select_experts(shape, logits, group_scores, route.experts.address() + row * k, route.weights.address() + row * k,
                     route.groups ? route.groups.address() + row * shape.granularity_output : nullptr);
    }
  });
}

void CpuStep::add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) {
  constexpr size_t at_once = 1 << 14;
  pool_->run(ceil_div(n_values, at_once), [&](size_t task, size_t) {
    const float* from = x.address();
    float* to = out.address();
    for (size_t i = task * at_once; i < std::min(n_values, (task + 1) * at_once); i++) to[i] += from[i];
  });
}

void CpuStep::upload(std::span<const std::byte> from, DevicePtr<std::byte> to) {
  if (!from.empty()) std::memcpy(to.address(), from.data(), from.size());
}

void CpuStep::download(DevicePtr<const std::byte> from, std::span<std::byte> to) {
  if (!to.empty()) std::memcpy(to.data(), from.address(), to.size());
}

}  // namespace finermoe
