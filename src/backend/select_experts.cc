#include "backend/select_experts.h"

#include <algorithm>
#include <cmath>

namespace finermoe {
namespace {

// The T_I largest logits of the group that begins at `begin`, ascending by index (steps 2 and 4).
void keep_largest(const RouterShape& shape, const float* logits, uint64_t begin, int32_t* kept) {
  const uint64_t end = begin + shape.group_size();
  int32_t* kept_end = kept;
  // `kept` is sorted by descending logit, ties by index: a later expert moves ahead only of strictly smaller ones.
  for (uint64_t expert = begin; expert < end; expert++) {
    int32_t* place = kept_end;
    while (place != kept && logits[expert] > logits[place[-1]]) place--;
    if (kept_end != kept + shape.top_inter) {
      kept_end++;
    } else if (place == kept_end) {
      continue;
    }
    std::move_backward(place, kept_end - 1, kept_end);
    *place = static_cast<int32_t>(expert);
  }
  std::sort(kept, kept_end);
}

// Step 5. float32, as the authors compute it; the sums are in double, in ascending order of the experts.
void softmax_weights(const RouterShape& shape, const float* logits, const int32_t* experts, float* weights) {
  const uint64_t k = shape.n_experts_per_token();
  float largest = -INFINITY;
  double sum = 0;
  if (shape.softmax_over_all) {
    for (uint64_t i = 0; i < shape.n_experts(); i++) largest = std::max(largest, logits[i]);
    for (uint64_t i = 0; i < shape.n_experts(); i++) sum += std::exp(logits[i] - largest);
  } else {
    for (uint64_t i = 0; i < k; i++) largest = std::max(largest, logits[experts[i]]);
    for (uint64_t i = 0; i < k; i++) sum += std::exp(logits[experts[i]] - largest);
  }
  double kept = 0;
  for (uint64_t i = 0; i < k; i++) {
    weights[i] = static_cast<float>(std::exp(logits[experts[i]] - largest) / sum);
    kept += weights[i];
  }
  if (!shape.norm_topk_prob) return;
  for (uint64_t i = 0; i < k; i++) weights[i] = static_cast<float>(weights[i] / kept);
}

}  // namespace

void select_experts(const RouterShape& shape, const float* logits, const float* group_scores, int32_t* experts,
                    float* weights, int32_t* groups) {
  // Step 3: a group's score is the sum of all its logits, kept or not. In double: float32 logits of any size do not
  // overflow, and small differences survive in a large sum.
  auto score = [&](uint64_t group) {
    if (group_scores != nullptr) return static_cast<double>(group_scores[group]);
    double sum = 0;
    const float* first = logits + group * shape.group_size();
    for (uint64_t i = 0; i < shape.group_size(); i++) sum += first[i];
    return sum;
  };
  for (uint64_t component = 0; component < shape.granularity_output; component++) {
    const uint64_t first = component * shape.expansion_output;
    uint64_t winner = first;
    double best = score(first);
    for (uint64_t group = first + 1; group < first + shape.expansion_output; group++) {
      const double candidate = score(group);
      if (candidate > best) best = candidate, winner = group;
    }
    // Only the winner's experts survive, so only they need to be kept.
    keep_largest(shape, logits, winner * shape.group_size(), experts + component * shape.top_inter);
    if (groups != nullptr) groups[component] = static_cast<int32_t>(winner);
  }
  softmax_weights(shape, logits, experts, weights);
}

int32_t find_not_finite(const RouterShape& shape, const float* logits, const float* group_scores) {
  const auto is_not_finite = [](float x) { return !std::isfinite(x); };
  const auto n_experts = static_cast<ptrdiff_t>(shape.n_experts());
  const auto n_groups = static_cast<ptrdiff_t>(group_scores == nullptr ? 0 : shape.n_groups());
  const ptrdiff_t expert = std::find_if(logits, logits + n_experts, is_not_finite) - logits;
  if (expert < n_experts) return static_cast<int32_t>(expert);
  const ptrdiff_t group = std::find_if(group_scores, group_scores + n_groups, is_not_finite) - group_scores;
  return group < n_groups ? static_cast<int32_t>(n_experts + group) : -1;
}

Status not_finite(const RouterShape& shape, size_t row, int32_t logit) {
  const auto n_experts = static_cast<int32_t>(shape.n_experts());
  const bool is_expert = logit < n_experts;
  return Status(FINERMOE_ERROR_NOT_FINITE,
                format_text("router: the logit of row ", row, is_expert ? ", expert " : ", group ",
                            is_expert ? logit : logit - n_experts, " is not finite"),
                "a finite logit", "NaN or infinity");
}

}  // namespace finermoe
