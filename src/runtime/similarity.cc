#include "runtime/similarity.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

namespace finermoe {
namespace {

float element(const WeightView& weight, uint64_t i) {
  if (weight.dtype == DType::f32) return reinterpret_cast<const float*>(weight.data)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(weight.data)[i];
  return weight.dtype == DType::bf16 ? bf16_to_float(bits) : f16_to_float(bits);
}

uint64_t size_of_matrix(const WeightView& weight) { return weight.rows * weight.columns; }

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
  ThreadPool& pool = model.runtime()->pool();
  constexpr uint64_t block = 16384;
  double sum_squared = 0, unit_length_squared = 0;
  std::vector<double> scale(experts.size());

  FM_TRY(stop.check());
  pool.run(experts.size(), [&](size_t e, size_t) {
    double squared = 0;
    for (const WeightView* matrix : matrices(experts[e])) {
      for (uint64_t i = 0; i < size_of_matrix(*matrix); i++) {
        const double value = element(*matrix, i);
        squared += value * value;
      }
    }
    scale[e] = squared > 0 ? 1 / std::sqrt(squared) : 0;
  });
  for (double s : scale) unit_length_squared += s > 0;

  for (size_t m = 0; m < 3; m++) {
    FM_TRY(stop.check());
    const uint64_t size = size_of_matrix(*matrices(experts[0])[m]), n_blocks = (size + block - 1) / block;
    std::vector<double> partial(n_blocks);
    pool.run(n_blocks, [&](size_t b, size_t) {
      const uint64_t begin = b * block, end = std::min(size, begin + block);
      std::vector<double> sum(end - begin);
      for (size_t e = 0; e < experts.size(); e++) {
        const WeightView& matrix = *matrices(experts[e])[m];
        for (uint64_t i = begin; i < end; i++) sum[i - begin] += scale[e] * element(matrix, i);
      }
      for (double s : sum) partial[b] += s * s;
    });
    for (double p : partial) sum_squared += p;
  }
  const double n = static_cast<double>(experts.size());
  return (sum_squared - unit_length_squared) / (n * (n - 1));
}

}  // namespace finermoe
