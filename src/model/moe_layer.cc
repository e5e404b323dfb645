#include "model/forward.h"

namespace finermoe {

Status moe_layer(const Model& model, const MoeWeights& weights, size_t n, Scratch& s) {
  Backend& backend = *model.backend;
  const RouterShape& shape = model.config.router;

  // Steps 1 to 5: logits, the kept experts of each group, the winning groups, one softmax over the survivors.
  FM_TRY(backend.route(s.normed, weights.router, shape, n, s.route, *s.workspace));

  // Steps 6 and 7: the weighted sum inside each output component, the concatenation across them, and its projection.
  if (weights.concat_proj) {
    FM_TRY(backend.moe_ffn(s.normed, weights.experts, shape, s.route, n, false, s.routed, *s.workspace));
    FM_TRY(backend.linear(s.routed, weights.concat_proj, n, true, s.x, *s.workspace));
  } else {
    FM_TRY(backend.moe_ffn(s.normed, weights.experts, shape, s.route, n, true, s.x, *s.workspace));
  }

  // Step 8: the shared expert, gated by a sigmoid.
  if (weights.shared.gate) {
    FM_TRY(backend.gated_ffn(s.normed, weights.shared, weights.shared_gate, n, s.x, *s.workspace));
  }
  return {};
}

}  // namespace finermoe
