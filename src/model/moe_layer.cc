#include "model/moe_layer.h"

#include <bitset>
#include <vector>

#include "base/function_ref.h"

namespace finermoe {
namespace {

// Some experts of a layer, and the device that computes them.
struct ExpertPart {
  size_t device;
  std::span<const uint32_t> experts;  // ascending indices into those of the layer
};

// The experts of a layer, part by part: for each device, those that it has. If they are fetched, only the chosen ones;
// also if their pages may have to be read from disk, and then in runs: while one run is used, the next is being read.
class ExpertParts {
 public:
  // `chosen` [n_choices] of the route, on the host; used only if there are `pages`, or experts are fetched.
  ExpertParts(ExpertPages* pages, const MoeWeights& weights, std::span<const int32_t> chosen)
      : pages_(pages), first_expert_(weights.first_expert), parts_(weights.parts) {
    if (pages != nullptr || weights.is_fetched) {
      std::vector<bool> is_chosen(weights.experts.size());
      for (const int32_t expert : chosen) is_chosen[static_cast<size_t>(expert)] = true;
      chosen_ = weights.parts;
      for (DeviceExperts& part : chosen_) std::erase_if(part.experts, [&](uint32_t e) { return !is_chosen[e]; });
      parts_ = chosen_;
    }
    read_next();
  }

  // The next part; without experts at the end.
  ExpertPart advance() {
    const ExpertPart part = next_;
    if (!part.experts.empty()) read_next();
    return part;
  }

 private:
  void read_next() {
    next_ = {};
    for (; !parts_.empty(); parts_ = parts_.subspan(1), n_taken_ = 0) {
      const std::span<const uint32_t> rest = std::span(parts_[0].experts).subspan(n_taken_);
      if (rest.empty()) continue;
      next_ = {parts_[0].device, pages_ == nullptr ? rest : will_use(rest)};
      n_taken_ += next_.experts.size();
      return;
    }
  }
  std::span<const uint32_t> will_use(std::span<const uint32_t> experts) {
    std::vector<uint32_t> of_all_layers(experts.begin(), experts.end());
    for (uint32_t& expert : of_all_layers) expert += static_cast<uint32_t>(first_expert_);
    const size_t n = pages_->run_length(of_all_layers);
    pages_->will_use(std::span(of_all_layers).first(n));
    return experts.first(n);
  }

  ExpertPages* const pages_;
  const size_t first_expert_;
  std::vector<DeviceExperts> chosen_;
  std::span<const DeviceExperts> parts_;  // not yet finished
  size_t n_taken_ = 0;                    // of the first one's experts
  ExpertPart next_{};
};

using DeviceSet = std::bitset<256>;

// Whether a device other than the layer's has some of its experts.
bool has_other_devices(const LayerWeights& layer) {
  return layer.moe.parts.front().device != layer.device || layer.moe.parts.back().device != layer.device;
}

// The pages of a layer's experts; null if no device uses them in the mapping.
ExpertPages* pages_of(const MoeWeights& weights, const Model& model) {
  for (const DeviceExperts& part : weights.parts) {
    if (!model.placement.devices[part.device].device->copies_weights()) return model.expert_pages.get();
  }
  return nullptr;
}

// Hands a layer's input and route to the other devices that have some of its experts.
void send_to_other_devices(const LayerWeights& layer, size_t n_values, size_t n_choices, Scratch& s) {
  for (const DeviceExperts& part : layer.moe.parts) {
    if (part.device == layer.device) continue;
    Step& step = s.step(part.device);
    const Activations& a = step.activations();
    step.upload<float>({s.hidden, n_values}, a.normed);
    step.upload<int32_t>({s.experts, n_choices}, a.route.experts);
    step.upload<float>({s.weights, n_choices}, a.route.weights);
  }
}

// out += the sums from the other devices that computed some experts, in device order
Status add_from_other_devices(const DeviceSet& have_sums, size_t main, size_t n_values, DevicePtr<float> out,
                              Scratch& s) {
  for (size_t device = 0; device < s.n_devices(); device++) {
    if (!have_sums[device] || device == main) continue;
    Step& step = s.step(device);
    step.download<float>(step.activations().x, {s.hidden, n_values});
    FM_TRY(step.wait());
    const DevicePtr<float> sums = s.step(main).activations().normed;  // no longer needed
    s.step(main).upload<float>({s.hidden, n_values}, sums);
    s.step(main).add(sums, n_values, out);
  }
  return {};
}

// Computes experts that are fetched: as many at a time as the cache has room for, most often all. While they are copied
// the device computes what it has been given before.
Status compute_fetched(ExpertCache& cache, size_t first_expert, std::span<const uint32_t> experts, Step& step,
                       Scratch& s, FunctionRef<void(std::span<const uint32_t>)> compute) {
  for (;;) {
    FM_ASSIGN(const size_t n, cache.fetch(first_expert, experts, s.fetched));
    step.wait_for(cache.copies());
    compute(experts.first(n));
    experts = experts.subspan(n);
    if (experts.empty()) return {};
    FM_TRY(step.wait());
    s.fetched.release();
  }
}

}  // namespace

// The steps are those of docs/finermoe-layer.md.
Status moe_layer(const Model& model, const LayerWeights& layer, size_t n, Scratch& s) {
  const MoeWeights& weights = layer.moe;
  Step& step = s.step(layer.device);
  const Activations& a = step.activations();
  const RouterShape& shape = model.config.router;
  const size_t n_choices = n * shape.n_experts_per_token(), n_values = n * model.config.hidden_size;
  ExpertPages* const pages = pages_of(weights, model);

  // Steps 1 to 5: logits, the kept experts of each group, the winning groups, one softmax over the survivors.
  step.route(a.normed, weights.router, shape, n, a.route);
  std::span<int32_t> chosen;
  if (has_other_devices(layer) || pages != nullptr || weights.is_fetched) {
    chosen = {s.experts, n_choices};
    step.download<int32_t>(a.route.experts, chosen);
    if (has_other_devices(layer)) {
      step.download<float>(a.route.weights, {s.weights, n_choices});
      step.download<float>(a.normed, {s.hidden, n_values});
    }
    FM_TRY(step.wait());
    s.fetched.release();  // of the layer before
  }
  ExpertParts parts(pages, weights, chosen);
  send_to_other_devices(layer, n_values, n_choices, s);

  // Step 8: the shared expert, gated by a sigmoid; meanwhile the chosen experts are read from disk or fetched.
  if (weights.shared.gate) step.gated_ffn(a.normed, weights.shared, weights.shared_gate, n, a.x);

  // Steps 6 and 7: the weighted sum inside each output component, the concatenation across them, and its projection.
  const DevicePtr<float> out = weights.concat_proj ? a.routed : a.x;
  DeviceSet have_sums;
  have_sums[layer.device] = !weights.concat_proj;
  for (ExpertPart part = parts.advance(); !part.experts.empty(); part = parts.advance()) {
    Step& on = s.step(part.device);
    const auto compute = [&](std::span<const uint32_t> experts) {
      const Activations& b = on.activations();
      on.moe_ffn(b.normed, weights.experts, experts, shape, b.route, n, have_sums[part.device],
                 part.device == layer.device ? out : b.x);
      have_sums.set(part.device);
    };
    if (!weights.is_fetched) {
      compute(part.experts);
    } else {
      FM_TRY(compute_fetched(*model.expert_cache, weights.first_expert, part.experts, on, s, compute));
    }
  }
  if (!have_sums[layer.device]) step.moe_ffn(a.normed, weights.experts, {}, shape, a.route, n, false, out);  // zeros
  FM_TRY(add_from_other_devices(have_sums, layer.device, n_values, out, s));
  if (weights.concat_proj) step.linear(a.routed, weights.concat_proj, n, true, a.x);
  return {};
}

}  // namespace finermoe
