#include "placement/plan.h"

#include <algorithm>

#include "backend/backend.h"
#include "base/saturating.h"
#include "format/tensor_table.h"
#include "placement/placement.h"
#include "placement/residency.h"

namespace finermoe {
namespace {

uint64_t& part_of(Plan& plan, TensorKind kind) {
  switch (kind) {
    case TensorKind::embedding:
    case TensorKind::head:
      return plan.embeddings;
    case TensorKind::attention:
    case TensorKind::norm:
    case TensorKind::bias:
      return plan.attention;
    case TensorKind::dense:
      return plan.dense;
    case TensorKind::shared:
    case TensorKind::shared_gate:
    case TensorKind::concat_proj:
      return plan.shared;
    case TensorKind::router:
    case TensorKind::concat_gate:
      return plan.router;
    case TensorKind::routed:
      break;
  }
  return plan.routed;
}

// Bytes of all sessions' caches of some layers, on a device.
uint64_t cache_bytes(const Config& config, const Device& device, const PlanOptions& options, size_t n_layers) {
  if (n_layers == 0) return 0;
  KvShape shape = KvShape::of(config, options.context_length, options.kv_dtype);
  shape.n_layers = n_layers;
  return saturating_product(options.n_sessions, device.kv_cache_bytes(shape));
}

uint64_t step_bytes(const Config& config, const Device& device, const PlanOptions& options) {
  return device.step_bytes(config, options.chunk, options.context_length, options.n_threads);
}

// A routed expert: all have one size.
struct ExpertBytes {
  uint64_t slot = 0, stored = 0;  // in an expert cache, and in the checkpoint

  explicit ExpertBytes(const Config& config) {
    visit_tensors(config, [&](const TensorSpec& spec) {
      if (spec.kind != TensorKind::routed || spec.expert_of_all != 0) return;
      stored += stored_bytes(config, spec);
      slot += copied_bytes(stored_bytes(config, spec));
    });
  }
};

// MoE layers of the device whose experts are not there.
uint64_t n_layers_to_fetch(const Config& config, const DeviceShare& share) {
  const auto first = config.is_moe_layer.end() - static_cast<std::ptrdiff_t>(share.n_layers);
  return static_cast<uint64_t>(std::count(first, config.is_moe_layer.end(), true)) - share.n_moe_layers;
}

// Expected copies for a token that is decoded, if every expert of a layer is as likely as the others.
uint64_t fetched_per_token(const Config& config, uint64_t n_layers, uint64_t n_slots, uint64_t expert_bytes) {
  const uint64_t k = config.router.n_experts_per_token(), n_experts = config.router.n_experts();
  // When a layer's turn comes again, the other layers have had k experts each since. If these alone fill the slots, the
  // least recently used expert is always one that was not used since then: whatever tokens choose, none hits.
  if (n_slots <= (n_layers - 1) * k) return saturating_product(n_layers * k, expert_bytes);
  return saturating_product(saturating_product(k, expert_bytes), n_layers * n_experts - n_slots) / n_experts;
}

// The device's share beside an expert cache, and the cache, if there is something to fetch.
Status add_expert_cache(const Config& config, uint64_t room, const PlanOptions& options,
                        FunctionRef<uint64_t(size_t n)> caches_of, Plan& plan) {
  const ExpertBytes expert(config);
  const uint64_t n_experts = config.n_moe_layers() * config.router.n_experts();
  const uint64_t reserved = std::min(options.expert_cache / expert.slot, n_experts) * expert.slot;
  const DeviceShare beside = DeviceShare::within(config, room - std::min(room, reserved), caches_of);
  const uint64_t n_layers = n_layers_to_fetch(config, beside);
  if (n_layers == 0) return {};
  const uint64_t k = config.router.n_experts_per_token();
  FM_ASSIGN(plan.expert_cache,
            ExpertCacheSize::within(options.expert_cache, expert.slot, k, n_layers * config.router.n_experts()));
  plan.share = beside;
  plan.device_bytes_per_token = saturating_sum(beside.bytes_per_token, saturating_product(n_layers * k, expert.stored));
  plan.fetched_bytes_per_token = fetched_per_token(config, n_layers, plan.expert_cache.n_slots, expert.stored);
  return {};
}

// What the device takes, and what that leaves to the CPU.
Status divide(const Config& config, const Device& device, const Device& cpu, const PlanOptions& options, Plan& plan) {
  plan.device_memory = options.device_memory != 0 ? options.device_memory : device.info().memory;
  const uint64_t step = step_bytes(config, device, options);
  const uint64_t room = plan.device_memory - std::min(plan.device_memory, step);
  const auto caches_of = [&](size_t n_layers) { return cache_bytes(config, device, options, n_layers); };
  plan.share = DeviceShare::within(config, room, caches_of);
  plan.device_bytes_per_token = plan.share.bytes_per_token;
  const auto is_whole = [&] {
    return plan.share.n_layers == config.n_layers && plan.share.n_moe_layers == config.n_moe_layers();
  };
  if (options.expert_cache != 0 && config.is_moe() && !is_whole()) {
    FM_TRY(add_expert_cache(config, room, options, caches_of, plan));
  }
  const uint64_t cache = caches_of(plan.share.n_layers);
  plan.device_total =
      saturating_sum(saturating_sum(plan.share.weights, plan.expert_cache.bytes()), saturating_sum(cache, step));
  if (is_whole()) return {};
  if (plan.expert_cache.n_slots > 0) plan.scratch = saturating_sum(plan.scratch, device.copy_queue_bytes());
  ExchangeArrays exchange(config, options.chunk);
  if (plan.share.n_layers == config.n_layers && plan.expert_cache.n_slots > 0) {  // the CPU computes nothing
    exchange.hidden = 0;
    plan.scratch = saturating_sum(plan.scratch, exchange.bytes());
    return {};
  }
  plan.kv_cache = saturating_sum(cache, cache_bytes(config, cpu, options, config.n_layers - plan.share.n_layers));
  plan.scratch = saturating_sum(plan.scratch, saturating_sum(step_bytes(config, cpu, options), exchange.bytes()));
  return {};
}

}  // namespace

Result<Plan> make_plan(const Config& config, const Device& device, const Device& cpu, const PlanOptions& options) {
  Plan plan;
  if (options.expert_cache != 0) FM_TRY(check_expert_cache_on(device, options.expert_cache));
  visit_tensors(config, [&](const TensorSpec& spec) {
    part_of(plan, spec.kind) += stored_bytes(config, spec);
    plan.bytes_per_token += read_per_token(config, spec);
    if (is_read_by_every_token(config, spec.kind)) plan.every_token += stored_bytes(config, spec);
  });
  plan.kv_cache = cache_bytes(config, device, options, config.n_layers);
  plan.scratch = saturating_sum(step_bytes(config, device, options),
                                saturating_product(options.n_sessions, config.vocab_size * sizeof(float)));
  if (device.copies_weights()) FM_TRY(divide(config, device, cpu, options, plan));
  if (saturating_sum(saturating_sum(plan.share.weights, plan.expert_cache.bytes()),
                     saturating_sum(plan.kv_cache, plan.scratch)) == UINT64_MAX) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text(options.n_sessions, " sessions of ", options.context_length,
                              " tokens take more bytes than 64 bits can count"),
                  "fewer or shorter sessions", format_text(options.n_sessions));
  }
  return plan;
}

}  // namespace finermoe
