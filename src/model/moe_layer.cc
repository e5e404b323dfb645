#include <algorithm>
#include <optional>
#include <vector>

#include "model/forward.h"

namespace finermoe {
namespace {

// The experts that a step chose, in the order of their use: indices among the experts of all layers.
std::vector<uint32_t> chosen_experts(const MoeWeights& weights, const Route& route, size_t n_choices) {
  std::vector<bool> is_chosen(weights.experts.size());
  for (size_t i = 0; i < n_choices; i++) is_chosen[static_cast<size_t>(route.experts[i])] = true;
  std::vector<uint32_t> chosen;
  for (size_t expert = 0; expert < is_chosen.size(); expert++) {
    if (is_chosen[expert]) chosen.push_back(static_cast<uint32_t>(weights.first_expert + expert));
  }
  return chosen;
}

// The experts of a layer whose pages may have to be read, in runs: while one is used, the next is being read. Their
// sums have one order, so the runs do not change results.
class ExpertRuns {
 public:
  ExpertRuns(ExpertPages& pages, const MoeWeights& weights, const Route& route, size_t n_choices)
      : pages_(pages), first_expert_(weights.first_expert), chosen_(chosen_experts(weights, route, n_choices)) {
    read_next();
  }
  // Moves to the next run and has the one after it read.
  bool advance() {
    run_ = next_;
    if (run_.empty()) return false;
    read_next();
    return true;
  }
  // In the run: expert `index` of the layer?
  bool holds(int32_t index) const {
    const auto expert = static_cast<uint32_t>(first_expert_ + static_cast<size_t>(index));
    return expert >= run_.front() && expert <= run_.back();
  }

 private:
  void read_next() {
    const std::span<const uint32_t> rest = std::span(chosen_).subspan(n_asked_);
    next_ = rest.first(rest.empty() ? 0 : pages_.run_length(rest));
    n_asked_ += next_.size();
    pages_.will_use(next_);
  }
  ExpertPages& pages_;
  const size_t first_expert_;
  const std::vector<uint32_t> chosen_;
  size_t n_asked_ = 0;
  std::span<const uint32_t> run_, next_;
};

}  // namespace

// The steps are those of docs/finermoe-layer.md.
Status moe_layer(const Model& model, const MoeWeights& weights, size_t n, Scratch& s) {
  Backend& backend = *model.backend;
  const RouterShape& shape = model.config.router;

  // Steps 1 to 5: logits, the kept experts of each group, the winning groups, one softmax over the survivors.
  FM_TRY(backend.route(s.normed, weights.router, shape, n, s.route, *s.workspace));
  const size_t n_choices = n * shape.n_experts_per_token();
  std::optional<ExpertRuns> runs;
  if (model.expert_pages) runs.emplace(*model.expert_pages, weights, s.route, n_choices);

  // Step 8: the shared expert, gated by a sigmoid; the chosen experts are read from the disk meanwhile.
  if (weights.shared.gate) {
    FM_TRY(backend.gated_ffn(s.normed, weights.shared, weights.shared_gate, n, s.x, *s.workspace));
  }

  // Steps 6 and 7: the weighted sum inside each output component, the concatenation across them, and its projection.
  float* out = weights.concat_proj ? s.routed : s.x;
  bool accumulate = !weights.concat_proj;
  if (!runs) {
    FM_TRY(backend.moe_ffn(s.normed, weights.experts, shape, s.route, n, accumulate, out, *s.workspace));
  }
  for (; runs && runs->advance(); accumulate = true) {
    Route route = s.route;
    route.experts = s.run_experts;
    std::transform(s.route.experts, s.route.experts + n_choices, s.run_experts,
                   [&](int32_t expert) { return runs->holds(expert) ? expert : -1; });
    FM_TRY(backend.moe_ffn(s.normed, weights.experts, shape, route, n, accumulate, out, *s.workspace));
  }
  if (weights.concat_proj) FM_TRY(backend.linear(s.routed, weights.concat_proj, n, true, s.x, *s.workspace));
  return {};
}

}  // namespace finermoe
