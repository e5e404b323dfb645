#include "model/forward.h"

namespace finermoe {

// Where each array begins in one allocation, in bytes; every array is aligned to 64.
struct Scratch::Layout {
  uint64_t x, normed, q, attended, routed, rope_frequencies, rope_cos, rope_sin, logits, experts, weights, groups,
      run_experts, total = 0;

  Layout(const Config& config, size_t n) {
    const uint64_t h = config.hidden_size, heads = config.n_heads * config.head_size;
    const bool moe = config.is_moe();
    const RouterShape& router = config.router;
    x = add(n * h);
    normed = add(n * h);
    q = add(n * heads);
    attended = add(n * heads);
    routed = add(config.has_concat_proj ? n * h : 0);
    rope_frequencies = add(config.head_size / 2);
    rope_cos = add(n * config.head_size / 2);
    rope_sin = add(n * config.head_size / 2);
    logits = add(moe ? n * router.n_experts() : 0);
    experts = add(moe ? n * router.n_experts_per_token() : 0);
    weights = add(moe ? n * router.n_experts_per_token() : 0);
    groups = add(moe ? n * router.granularity_output : 0);
    run_experts = add(moe ? n * router.n_experts_per_token() : 0);
  }

 private:
  uint64_t add(uint64_t elements) {  // all elements have 4 bytes
    uint64_t begin = total;
    total += (elements * 4 + 63) / 64 * 64;
    return begin;
  }
};

uint64_t Scratch::bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) {
  return Layout(config, n_rows).total + workspace_bytes(config, n_rows, n_positions, n_threads);
}

Result<std::unique_ptr<Scratch>> Scratch::make(const Model& model, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account) {
  const Layout layout(model.config, n_rows);
  auto scratch = std::make_unique<Scratch>();
  FM_ASSIGN(scratch->buffer_, Buffer::allocate(account, layout.total, "scratch"));
  FM_ASSIGN(scratch->workspace, model.backend->make_workspace(model.config, n_rows, n_positions, account));
  scratch->n_rows = n_rows;
  scratch->n_positions = n_positions;
  std::byte* base = scratch->buffer_.data();
  auto floats = [&](uint64_t offset) { return reinterpret_cast<float*>(base + offset); };
  auto integers = [&](uint64_t offset) { return reinterpret_cast<int32_t*>(base + offset); };
  scratch->x = floats(layout.x);
  scratch->normed = floats(layout.normed);
  scratch->q = floats(layout.q);
  scratch->attended = floats(layout.attended);
  scratch->routed = floats(layout.routed);
  scratch->rope_frequencies = floats(layout.rope_frequencies);
  scratch->rope_cos = floats(layout.rope_cos);
  scratch->rope_sin = floats(layout.rope_sin);
  scratch->route = {floats(layout.logits), integers(layout.experts), floats(layout.weights), integers(layout.groups)};
  scratch->run_experts = integers(layout.run_experts);
  return scratch;
}

}  // namespace finermoe
