#include "runtime/similarity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/blocks.h"

namespace finermoe {
namespace {

// out [columns] = a row of the matrix
void read_row(const WeightView& weight, uint64_t row, std::span<float> out) {
  if (is_blocked(weight.dtype)) {
    const std::byte* panel =
        weight.data.address() + row / panel_rows * matrix_bytes(weight.dtype, panel_rows, weight.columns);
    return decode_row(weight.dtype, panel, row % panel_rows, out);
  }
  const std::byte* from = weight.data.address() + row * weight.columns * size_of(weight.dtype);
  if (weight.dtype == DType::f32) {
    std::memcpy(out.data(), from, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); i++) out[i] = load_element(weight.dtype, from, i);
}

std::array<const WeightView*, 3> matrices(const FfnWeights& expert) { return {&expert.gate, &expert.up, &expert.down}; }

}  // namespace

// With unit vectors v_e and S their sum, the mean over pairs is (|S|^2 - N) / (N (N - 1)): one pass for the lengths,
// one for S, instead of one per pair.
Result<double> expert_similarity(const LoadedModel& model, size_t layer, const CancelFlag* cancel) {
  const Weights& weights = model.model().weights;
  if (layer >= weights.layers.size() || !weights.layers[layer].is_moe) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, cat("layer ", layer, " has no experts"), "the index of a MoE layer",
                  cat(layer));
  }
  const std::span<const FfnWeights> experts = weights.layers[layer].moe.experts;
  if (experts.size() < 2) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, "one expert alone has no pairs", "at least 2 experts", "1");
  }
  StopSignals stop(cancel);
  stop.watch(model.closed, "model");
  ThreadPool& pool = *model.runtime()->pool();
  double sum_squared = 0, unit_length_squared = 0;
  std::vector<double> scale(experts.size());
  uint64_t most_columns = 0;
  for (const WeightView* matrix : matrices(experts[0])) most_columns = std::max(most_columns, matrix->columns);
  std::vector<float> rows(pool.n_threads() * most_columns);   // one for each worker
  std::vector<double> sums(pool.n_threads() * most_columns);  // so these
  const auto row_of = [&](size_t worker, const WeightView& matrix, uint64_t row) {
    const std::span out(rows.data() + worker * most_columns, matrix.columns);
    read_row(matrix, row, out);
    return out;
  };

  FM_TRY(stop.check());
  pool.run(experts.size(), [&](size_t e, size_t worker) {
    double squared = 0;
    for (const WeightView* matrix : matrices(experts[e])) {
      for (uint64_t r = 0; r < matrix->rows; r++) {
        for (const double value : row_of(worker, *matrix, r)) squared += value * value;
      }
    }
    scale[e] = squared > 0 ? 1 / std::sqrt(squared) : 0;
  });
  for (double s : scale) unit_length_squared += s > 0;

  for (size_t m = 0; m < 3; m++) {
    FM_TRY(stop.check());
    const WeightView& first = *matrices(experts[0])[m];
    std::vector<double> partial(first.rows);
    pool.run(first.rows, [&](size_t r, size_t worker) {
      const std::span sum(sums.data() + worker * most_columns, first.columns);
      std::fill(sum.begin(), sum.end(), 0);
      for (size_t e = 0; e < experts.size(); e++) {
        const std::span<const float> row = row_of(worker, *matrices(experts[e])[m], r);
        for (size_t i = 0; i < sum.size(); i++) sum[i] += scale[e] * row[i];
      }
      for (double s : sum) partial[r] += s * s;
    });
    for (double p : partial) sum_squared += p;
  }
  const double n = static_cast<double>(experts.size());
  return (sum_squared - unit_length_squared) / (n * (n - 1));
}

}  // namespace finermoe
