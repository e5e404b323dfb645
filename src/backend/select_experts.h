// The router's decision for one token (docs/finermoe-layer.md, steps 2 to 5), the same on every device.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "format/config.h"

namespace finermoe {

// Chooses experts and weights from logits that are finite. Ties go to the lowest index.
//   logits        [N]
//   group_scores  [G_O R_O] of a separate router; null: the sum of each group's logits
//   experts       [G_O T_I] ascending
//   weights       [G_O T_I]
//   groups        [G_O] winning group of each component, or null
void select_experts(const RouterShape& shape, const float* logits, const float* group_scores, int32_t* experts,
                    float* weights, int32_t* groups);

// Whether select_experts can be given these logits. Null group scores are not looked at.
bool are_finite(const RouterShape& shape, const float* logits, const float* group_scores);
// Else: FINERMOE_ERROR_NOT_FINITE naming the row and the expert (or group) whose logit is NaN or infinite.
Status check_logits(const RouterShape& shape, size_t row, const float* logits, const float* group_scores);

}  // namespace finermoe
