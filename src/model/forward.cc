#include "model/forward.h"

#include <algorithm>
#include <vector>

#include "model/moe_layer.h"
#include "model/split_kv_cache.h"

namespace finermoe {
namespace {

// A pass on every participating device; the destructor ends it whatever happens, and releases the experts that it used.
class Pass {
 public:
  Pass(const Placement& placement, Scratch& scratch)
      : placement_(placement), scratch_(scratch), device_(placement.of_embedding()) {}
  Pass(const Pass&) = delete;
  ~Pass() {
    for (size_t device = 0; device < scratch_.n_devices(); device++) scratch_.step(device).end();
    scratch_.fetched.release();
  }
  Status begin(const RaggedBatch& batch, Precision precision) {
    for (size_t device = 0; device < scratch_.n_devices(); device++) {
      // Without layers, there are no rows: operations get theirs as arguments.
      RaggedBatch of_device;
      of_device.as_alone = batch.as_alone;
      const bool has_layers = placement_.has_layers(device);
      if (has_layers) of_device = batch;
      std::vector<KvCache*> caches;
      if (has_layers && placement_.divides_layers()) {
        for (KvCache* cache : batch.caches) caches.push_back(&static_cast<SplitKvCache*>(cache)->of_device(device));
        of_device.caches = caches;
      }
      FM_TRY(scratch_.step(device).begin(of_device, precision));
    }
    return {};
  }
  // The step of the device that has the residual stream.
  Step& step() { return scratch_.step(device_); }
  // Brings n_values of the residual stream to the device that computes next.
  Status move_to(size_t device, size_t n_values) {
    if (device == device_) return {};
    step().download<float>(step().activations().x, {scratch_.hidden, n_values});
    FM_TRY(step().wait());
    device_ = device;
    step().upload<float>({scratch_.hidden, n_values}, step().activations().x);
    return {};
  }
  // Waits until all is done; returns the error of the first of n rows that has one.
  Status wait(size_t n) {
    for (size_t device = 0; device < scratch_.n_devices(); device++) {
      if (placement_.has_layers(device)) FM_TRY(scratch_.step(device).wait());
    }
    for (size_t row = 0; row < n; row++) FM_TRY(scratch_.row_error(row));
    return {};
  }

 private:
  const Placement& placement_;
  Scratch& scratch_;
  size_t device_;
};

void attention_layer(const Model& model, const LayerWeights& layer, size_t index, size_t n, Step& step) {
  const Activations& a = step.activations();
  const AttentionShape shape = model.attention_shape(index);
  step.rms_norm(a.x, layer.input_norm, model.config.rms_norm_eps, n, a.normed);
  step.qkv(a.normed, layer.qkv, shape, layer.index_on_device, a.q);
  step.attention(a.q, shape, layer.index_on_device, a.attended);
  step.linear(a.attended, layer.o, n, true, a.x);
}

void copy_to_host(const Route& route, const RouterShape& shape, size_t n, const HostRoute& out, Step& step) {
  const size_t n_choices = n * shape.n_experts_per_token();
  step.download<float>(route.logits, {out.logits, n * shape.n_experts()});
  step.download<int32_t>(route.experts, {out.experts, n_choices});
  step.download<float>(route.weights, {out.weights, n_choices});
  step.download<int32_t>(route.groups, {out.groups, n * shape.granularity_output});
}

// Lets the device choose, and fetches the logits of the rows that it leaves to the host. False: of all rows.
Result<bool> choose(const Model& model, const Readout& readout, size_t n, Pass& pass, Step& step) {
  const uint64_t h = model.config.hidden_size, vocab = model.config.vocab_size;
  const size_t n_rows = readout.rows.size();
  const DevicePtr<float> x = step.activations().normed;
  const WeightView& head = model.weights.head;
  const auto choices = readout.choices.first(std::min(n_rows, readout.choices.size()));
  if (choices.empty() || !step.choose(x, head, n_rows, readout.n_choosable, choices, readout.chosen)) return false;
  FM_TRY(pass.wait(n));
  const auto is_left = [&](size_t row) { return row < n_rows && readout.chosen[row].id < 0; };
  bool are_chosen = true;
  for (size_t begin = 0, end; begin < n_rows; begin = end) {
    for (end = begin + 1; is_left(begin) && is_left(end);) end++;
    if (!is_left(begin)) continue;
    are_chosen = false;
    step.logits(x + begin * h, head, end - begin, readout.logits + begin * vocab);
  }
  if (!are_chosen) FM_TRY(pass.wait(n));
  return true;
}

// For runs of adjacent rows at a time.
void final_norm(const Model& model, std::span<const size_t> rows, Step& step) {
  const uint64_t h = model.config.hidden_size;
  const Activations& a = step.activations();
  for (size_t begin = 0, end; begin < rows.size(); begin = end) {
    for (end = begin + 1; end < rows.size() && rows[end] == rows[end - 1] + 1;) end++;
    step.rms_norm(a.x + rows[begin] * h, model.weights.norm, model.config.rms_norm_eps, end - begin,
                  a.normed + begin * h);
  }
}

// Final norm and head.
Status read_out(const Model& model, const Readout& readout, const ForwardHooks& hooks, size_t n, Pass& pass) {
  Step& step = pass.step();
  const uint64_t h = model.config.hidden_size;
  const Activations& a = step.activations();
  const std::span<const size_t> rows = readout.rows;
  final_norm(model, rows, step);
  if (readout.hidden != nullptr) step.download<float>(a.normed, {readout.hidden, rows.size() * h});
  if (readout.logits == nullptr) return pass.wait(n);
  FM_ASSIGN(const bool is_chosen, choose(model, readout, n, pass, step));
  if (is_chosen) return {};
  const size_t at_once = readout.logits_block != nullptr ? readout.logits_block_rows : rows.size();
  for (size_t begin = 0; begin < rows.size(); begin += at_once) {
    if (begin > 0) FM_TRY(hooks.go_on());
    const size_t end = std::min(rows.size(), begin + at_once);
    step.logits(a.normed + begin * h, model.weights.head, end - begin, readout.logits);
    if (readout.logits_block == nullptr) continue;
    FM_TRY(pass.wait(n));
    (*readout.logits_block)(begin, end, readout.logits);
  }
  return pass.wait(n);
}

// Embedding and layers.
Status compute_layers(const Model& model, size_t n, Scratch& scratch, const ForwardHooks& hooks, Pass& pass) {
  pass.step().embed(model.weights.embedding, pass.step().activations().x);
  size_t n_moe_layers = 0;
  for (size_t index = 0; index < model.weights.layers.size(); index++) {
    FM_TRY(hooks.go_on());
    const LayerWeights& layer = model.weights.layers[index];
    FM_TRY(pass.move_to(layer.device, n * model.config.hidden_size));
    Step& step = pass.step();
    const Activations& a = step.activations();
    attention_layer(model, layer, index, n, step);
    step.rms_norm(a.x, layer.post_attention_norm, model.config.rms_norm_eps, n, a.normed);
    if (!layer.is_moe) {
      step.gated_ffn(a.normed, layer.dense, {}, n, a.x);
      continue;
    }
    FM_TRY(moe_layer(model, layer, n, scratch));
    if (!hooks.routes.empty()) {
      copy_to_host(a.route, model.config.router, n, hooks.routes[n_moe_layers++], step);
    }
  }
  return {};
}

// Passes over what the device chooses, of one row, which the host waits for together.
Status follow_choices(const Model& model, const RaggedBatch& batch, Precision precision, const Readout& readout,
                      Scratch& scratch, const ForwardHooks& hooks) {
  Pass pass(model.placement, scratch);
  FM_TRY(pass.begin(batch, precision));
  Step& step = pass.step();
  for (size_t i = 0; i < batch.n_passes; i++) {
    if (i > 0) step.next_pass();
    FM_TRY(compute_layers(model, 1, scratch, hooks, pass));
    final_norm(model, readout.rows, step);
    if (!step.choose(step.activations().normed, model.weights.head, 1, readout.n_choosable, readout.choices,
                     readout.chosen)) {
      return {};
    }
  }
  FM_TRY(step.wait());
  if (!step.row_error(0).ok()) readout.chosen[batch.n_passes - 1].id = -1;
  return {};
}

}  // namespace

Status forward(const Model& model, const RaggedBatch& batch, Precision precision, const Readout& readout,
               Scratch& scratch, const ForwardHooks& hooks) {
  if (readout.n_passes() > 1) {
    RaggedBatch several = batch;
    several.n_passes = readout.n_passes();
    std::fill_n(readout.chosen, several.n_passes, ChosenToken{});
    FM_TRY(follow_choices(model, several, precision, readout, scratch, hooks));
    if (readout.chosen[0].id >= 0) return {};
    std::fill_n(readout.chosen, several.n_passes, ChosenToken{});  // its logits are gone: once more, alone
  }
  const size_t n = batch.n();
  Pass pass(model.placement, scratch);
  FM_TRY(pass.begin(batch, precision));
  FM_TRY(compute_layers(model, n, scratch, hooks, pass));
  return read_out(model, readout, hooks, n, pass);
}

}  // namespace finermoe
