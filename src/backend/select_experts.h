// The router's decision for one token (docs/finermoe-layer.md, steps 2 to 5), the same on every device.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "format/config.h"

namespace finermoe {

// Chooses experts and weights. Ties go to the lowest index. With non-finite logits, the experts are arbitrary and the
// weights meaningless.
//   logits        [N]
//   group_scores  [G_O R_O] of a separate router; null: the sum of each group's logits
//   experts       [G_O T_I] ascending
//   weights       [G_O T_I]
//   groups        [G_O] winning group of each component, or null
void select_experts(const RouterShape& shape, const float* logits, const float* group_scores, int32_t* experts,
                    float* weights, int32_t* groups);

// A token's first non-finite logit: i for expert i, N + g for group g; -1: none. Null group scores are ignored.
int32_t find_not_finite(const RouterShape& shape, const float* logits, const float* group_scores);
// Its error, FINERMOE_ERROR_NOT_FINITE.
Status not_finite(const RouterShape& shape, size_t row, int32_t logit);

}  // namespace finermoe
