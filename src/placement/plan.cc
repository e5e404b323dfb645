#include "placement/plan.h"

#include "base/blocks.h"
#include "base/saturating.h"
#include "format/tensor_table.h"
#include "placement/residency.h"

namespace finermoe {

Result<Plan> make_plan(const Config& config, const Device& device, const PlanOptions& options) {
  Plan plan;
  FM_TRY(for_each_tensor(config, [&](const TensorSpec& spec) {
    const uint64_t bytes = matrix_bytes(config.type_of(spec), spec.rows, spec.columns);
    uint64_t read = bytes;  // by one token
    switch (spec.kind) {
      case TensorKind::embedding:
        plan.embeddings += bytes;
        if (!config.tied_embeddings) read = bytes / config.vocab_size;  // one row; a tied one is also the head
        break;
      case TensorKind::head:
        plan.embeddings += bytes;
        break;
      case TensorKind::attention:
      case TensorKind::norm:
      case TensorKind::bias:
        plan.attention += bytes;
        break;
      case TensorKind::dense:
        plan.dense += bytes;
        break;
      case TensorKind::shared:
      case TensorKind::shared_gate:
      case TensorKind::concat_proj:
        plan.shared += bytes;
        break;
      case TensorKind::router:
      case TensorKind::concat_gate:
        plan.router += bytes;
        break;
      case TensorKind::routed:
        plan.routed += bytes;
        read = 0;  // the chosen ones are added below: all experts have one size
        if (spec.expert == 0) plan.bytes_per_token += bytes * config.router.n_experts_per_token();
        break;
    }
    plan.bytes_per_token += read;
    if (is_read_by_every_token(config, spec.kind)) plan.every_token += bytes;
    return Status();
  }));
  const KvShape cache = KvShape::of(config, options.context_length, options.kv_dtype);
  plan.kv_cache = saturating_product(options.n_sessions, device.kv_cache_bytes(cache));
  plan.scratch = saturating_sum(device.step_bytes(config, options.chunk, options.context_length, options.n_threads),
                                saturating_product(options.n_sessions, config.vocab_size * sizeof(float)));
  if (saturating_sum(plan.kv_cache, plan.scratch) == UINT64_MAX) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text(options.n_sessions, " sessions of ", options.context_length,
                              " tokens take more bytes than 64 bits can count"),
                  "fewer or shorter sessions", format_text(options.n_sessions));
  }
  return plan;
}

}  // namespace finermoe
