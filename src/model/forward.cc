#include "model/forward.h"

#include <algorithm>
#include <cmath>

namespace finermoe {
namespace {

// Rotary angles of every row, as the authors compute them: frequencies and angles in float32.
void fill_rope(const Config& config, const RaggedBatch& batch, Scratch& s) {
  const size_t half = config.head_size / 2;
  const auto factor = static_cast<float>(config.rope.attention_factor);
  config.rope.frequencies(config.head_size, {s.rope_frequencies, half});
  for (size_t row = 0; row < batch.n(); row++) {
    for (size_t i = 0; i < half; i++) {
      const float angle = static_cast<float>(batch.positions[row]) * s.rope_frequencies[i];
      s.rope_cos[row * half + i] = std::cos(angle) * factor;
      s.rope_sin[row * half + i] = std::sin(angle) * factor;
    }
  }
}

Status attention_layer(const Model& model, const LayerWeights& layer, size_t index, const RaggedBatch& batch,
                       Scratch& s) {
  Backend& backend = *model.backend;
  const AttentionShape shape = model.attention_shape(index);
  FM_TRY(backend.rms_norm(s.x, layer.input_norm, model.config.rms_norm_eps, batch.n(), s.normed));
  FM_TRY(backend.qkv(s.normed, layer.qkv, shape, batch, index, s.q, *s.workspace));
  FM_TRY(backend.attention(s.q, shape, batch, index, s.attended, *s.workspace));
  return backend.linear(s.attended, layer.o, batch.n(), true, s.x, *s.workspace);
}

// Final norm, for runs of neighbouring rows at a time, and head.
Status read_out(const Model& model, const Readout& readout, const ForwardHooks& hooks, Scratch& s) {
  const uint64_t h = model.config.hidden_size;
  const std::span<const size_t> rows = readout.rows;
  for (size_t begin = 0, end; begin < rows.size(); begin = end) {
    for (end = begin + 1; end < rows.size() && rows[end] == rows[end - 1] + 1;) end++;
    FM_TRY(model.backend->rms_norm(s.x + rows[begin] * h, model.weights.norm, model.config.rms_norm_eps, end - begin,
                                   s.normed + begin * h));
  }
  if (readout.hidden != nullptr) std::copy_n(s.normed, rows.size() * h, readout.hidden);
  if (readout.logits == nullptr) return {};
  const size_t at_once = readout.logits_block != nullptr ? readout.logits_block_rows : rows.size();
  for (size_t begin = 0; begin < rows.size(); begin += at_once) {
    if (begin > 0) FM_TRY(hooks.go_on());
    const size_t n = std::min(at_once, rows.size() - begin);
    FM_TRY(model.backend->linear(s.normed + begin * h, model.weights.head, n, false, readout.logits, *s.workspace));
    if (readout.logits_block != nullptr) (*readout.logits_block)(begin, begin + n, readout.logits);
  }
  return {};
}

}  // namespace

Status forward(const Model& model, RaggedBatch batch, const Readout& readout, Scratch& s, const ForwardHooks& hooks) {
  Backend& backend = *model.backend;
  const size_t n = batch.n();
  fill_rope(model.config, batch, s);
  batch.rope_cos = s.rope_cos;
  batch.rope_sin = s.rope_sin;
  FM_TRY(backend.embed(model.weights.embedding, batch.tokens, s.x));
  for (size_t index = 0; index < model.weights.layers.size(); index++) {
    FM_TRY(hooks.go_on());
    const LayerWeights& layer = model.weights.layers[index];
    FM_TRY(attention_layer(model, layer, index, batch, s));
    FM_TRY(backend.rms_norm(s.x, layer.post_attention_norm, model.config.rms_norm_eps, n, s.normed));
    if (layer.is_moe) {
      FM_TRY(moe_layer(model, layer.moe, n, s));
      hooks.routed(index, s.route, n);
    } else {
      FM_TRY(backend.gated_ffn(s.normed, layer.dense, {}, n, s.x, *s.workspace));
    }
  }
  return read_out(model, readout, hooks, s);
}

}  // namespace finermoe
