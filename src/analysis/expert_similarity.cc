#include "analysis/expert_similarity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>
#include <vector>

#include "base/blocks.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

// out [columns] = a row of the matrix
void read_row(const Tensor& matrix, uint64_t row, std::span<float> out) {
  if (is_blocked(matrix.dtype)) {
    const std::byte* panel = matrix.data + row / panel_rows * matrix_bytes(matrix.dtype, panel_rows, matrix.columns);
    return decode_row(matrix.dtype, panel, row % panel_rows, out);
  }
  const std::byte* from = matrix.data + row * matrix.columns * size_of(matrix.dtype);
  if (matrix.dtype == DType::f32) {
    std::memcpy(out.data(), from, out.size_bytes());
    return;
  }
  for (size_t i = 0; i < out.size(); i++) out[i] = load_element(matrix.dtype, from, i);
}

using Expert = std::array<const Tensor*, 3>;  // gate, up, down

std::vector<Expert> experts_of(const Checkpoint& checkpoint, size_t layer) {
  std::vector<Expert> experts(checkpoint.config().router.n_experts());
  for (size_t e = 0; e < experts.size(); e++) {
    for (size_t m = 0; m < experts[e].size(); m++) {
      experts[e][m] = checkpoint.find(
          ffn_tensor_name(TensorKind::routed, ffn_roles[m], static_cast<int64_t>(layer), static_cast<int64_t>(e)));
    }
  }
  return experts;
}

}  // namespace

// With unit vectors v_e and their sum S, the mean over pairs is (|S|^2 - N) / (N (N - 1)): one pass for the norms and
// one for S, instead of one per pair.
Result<double> expert_similarity(const Checkpoint& checkpoint, size_t layer, ThreadPool& pool,
                                 FunctionRef<Status()> go_on) {
  const std::vector<bool>& is_moe_layer = checkpoint.config().is_moe_layer;
  if (layer >= is_moe_layer.size() || !is_moe_layer[layer]) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("layer ", layer, " has no experts"),
                  "the index of a MoE layer", format_text(layer));
  }
  const std::vector<Expert> experts = experts_of(checkpoint, layer);
  if (experts.size() < 2) {
    return Status(FINERMOE_ERROR_UNSUPPORTED, "one expert alone has no pairs", "at least 2 experts", "1");
  }
  double sum_squared = 0, unit_length_squared = 0;
  std::vector<double> scale(experts.size());
  uint64_t most_columns = 0;
  for (const Tensor* matrix : experts[0]) most_columns = std::max(most_columns, matrix->columns);
  std::vector<float> rows(pool.n_threads() * most_columns);   // one for each worker
  std::vector<double> sums(pool.n_threads() * most_columns);  // likewise
  const auto row_of = [&](size_t worker, const Tensor& matrix, uint64_t row) {
    const std::span out(rows.data() + worker * most_columns, matrix.columns);
    read_row(matrix, row, out);
    return out;
  };

  const auto ready_to_read = [&]() -> Status {
    FM_TRY(go_on());
    return checkpoint.check_unchanged();
  };
  FM_TRY(ready_to_read());
  pool.run(experts.size(), [&](size_t e, size_t worker) {
    double squared = 0;
    for (const Tensor* matrix : experts[e]) {
      for (uint64_t r = 0; r < matrix->rows; r++) {
        for (const double value : row_of(worker, *matrix, r)) squared += value * value;
      }
    }
    scale[e] = squared > 0 ? 1 / std::sqrt(squared) : 0;
  });
  for (double s : scale) unit_length_squared += s > 0;

  for (size_t m = 0; m < 3; m++) {
    FM_TRY(ready_to_read());
    const Tensor& first = *experts[0][m];
    std::vector<double> partial(first.rows);
    pool.run(first.rows, [&](size_t r, size_t worker) {
      const std::span sum(sums.data() + worker * most_columns, first.columns);
      std::fill(sum.begin(), sum.end(), 0);
      for (size_t e = 0; e < experts.size(); e++) {
        const std::span<const float> row = row_of(worker, *experts[e][m], r);
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
