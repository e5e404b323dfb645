#include "placement/plan.h"

#include <algorithm>

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

// What the device takes, and what that leaves to the CPU.
void divide(const Config& config, const Device& device, const Device& cpu, const PlanOptions& options, Plan& plan) {
  plan.device_memory = options.device_memory != 0 ? options.device_memory : device.info().memory;
  const uint64_t step = step_bytes(config, device, options);
  const uint64_t room = plan.device_memory - std::min(plan.device_memory, step);
  const auto caches_of = [&](size_t n_layers) { return cache_bytes(config, device, options, n_layers); };
  plan.share = DeviceShare::within(config, room, caches_of);
  const uint64_t cache = caches_of(plan.share.n_layers);
  plan.device_total = saturating_sum(plan.share.weights, saturating_sum(cache, step));
  if (plan.share.n_layers == config.n_layers && plan.share.n_moe_layers == config.n_moe_layers()) return;
  plan.kv_cache = saturating_sum(cache, cache_bytes(config, cpu, options, config.n_layers - plan.share.n_layers));
  plan.scratch = saturating_sum(
      plan.scratch, saturating_sum(step_bytes(config, cpu, options), ExchangeArrays(config, options.chunk).bytes()));
}

}  // namespace

Result<Plan> make_plan(const Config& config, const Device& device, const Device& cpu, const PlanOptions& options) {
  Plan plan;
  visit_tensors(config, [&](const TensorSpec& spec) {
    part_of(plan, spec.kind) += stored_bytes(config, spec);
    plan.bytes_per_token += read_per_token(config, spec);
    if (is_read_by_every_token(config, spec.kind)) plan.every_token += stored_bytes(config, spec);
  });
  plan.kv_cache = cache_bytes(config, device, options, config.n_layers);
  plan.scratch = saturating_sum(step_bytes(config, device, options),
                                saturating_product(options.n_sessions, config.vocab_size * sizeof(float)));
  if (device.copies_weights()) divide(config, device, cpu, options, plan);
  if (saturating_sum(plan.share.weights, saturating_sum(plan.kv_cache, plan.scratch)) == UINT64_MAX) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text(options.n_sessions, " sessions of ", options.context_length,
                              " tokens take more bytes than 64 bits can count"),
                  "fewer or shorter sessions", format_text(options.n_sessions));
  }
  return plan;
}

}  // namespace finermoe
