#include "cuda/step_memory.h"

#include <algorithm>

#include "base/places.h"
#include "cuda/blas_products.h"

namespace finermoe::cuda {
namespace {

// Logits that lie on the device at a time: of one row as many as this, of more rows all.
constexpr uint64_t logits_of_one_row = 1 << 18;
constexpr uint64_t rows_of_logits = 16;

// Of a row of activations in float32 or, where it is very short, as tensor cores take it.
uint64_t room_of(uint64_t width) { return std::max(width, operand_stride(width) / 2); }

}  // namespace

PassArrays::PassArrays(uintptr_t memory, uint64_t n, uint64_t head_size, uint64_t n_passes) {
  Places places(memory);
  places.put(tokens, n);
  places.put(positions, n);
  places.put(cos, n * head_size / 2);
  places.put(sin, n * head_size / 2);
  places.put(caches, n);
  places.put(attention_rows, n);
  places.put(choices, n);
  places.put(not_finite, n);
  places.put(next_cos, (n_passes - 1) * head_size / 2);
  places.put(next_sin, (n_passes - 1) * head_size / 2);
  places.put(next_choices, n_passes - 1);
  bytes = places.used();
}

StepMemory::Bytes StepMemory::place(uintptr_t device, uintptr_t host, const Config& config, uint64_t n_rows,
                                    uint64_t n_positions) {
  const RouterShape& router = config.router;
  const bool is_moe = config.is_moe();
  const uint64_t n_experts = is_moe ? router.n_experts() : 0, n_groups = is_moe ? router.n_groups() : 0;
  const uint64_t n_chosen = is_moe ? n_rows * router.n_experts_per_token() : 0;
  const uint64_t whole_width = std::max(config.intermediate_size, config.shared_expert_width);
  const bool has_tiles = is_moe && n_rows > most_few_rows;
  const uint64_t n_sorted = has_tiles ? n_chosen : 0;

  Places on_device(device), in_host(host);
  const uint64_t of_pass = PassArrays(0, n_rows, config.head_size, most_passes).bytes;
  pass = on_device.next(of_pass);
  pass_on_host = in_host.next(of_pass);
  n_tables = is_moe ? std::max<uint64_t>(config.n_moe_layers(), 1) : 0;
  on_device.put(tables, n_tables * n_experts);
  in_host.put(tables_on_host, n_tables * n_experts);

  const uint64_t of_activations = Activations::bytes(config, n_rows);
  activations = Activations::in(DevicePtr<std::byte>::at(on_device.next(of_activations)), config, n_rows);
  on_device.put(k, n_rows * config.kv_width());
  on_device.put(v, n_rows * config.kv_width());
  n_logits = n_rows == 1 ? std::min(config.vocab_size, logits_of_one_row)
                         : std::min(n_rows, rows_of_logits) * config.vocab_size;
  on_device.put(logits, n_logits);
  on_device.put(chosen, n_rows);
  on_device.put(taken, most_passes - 1);
  const uint64_t n_runs = std::min(n_rows, rows_of_logits) * ((config.vocab_size + run_length - 1) / run_length);
  on_device.put(maxima, n_runs);
  on_device.put(choosable_maxima, n_runs);
  on_device.put(sums, n_runs);
  on_device.put(weights, n_runs);
  staging_bytes = n_logits * sizeof(float);
  in_host.put(staging, staging_bytes);
  on_device.put(gate_scale, n_rows);
  on_device.put(group_logits, router.separate ? n_rows * n_groups : 0);
  on_device.put(group_scores, n_rows * n_groups);
  on_device.put(exponentials, router.softmax_over_all ? n_rows * n_experts : 0);
  on_device.put(activated, std::max(n_chosen * room_of(config.expert_width), n_rows * room_of(whole_width)));
  const auto is_large = [&](uint64_t width) {
    return n_rows >= least_blas_vectors && config.hidden_size * width >= least_blas_elements;
  };
  uint64_t widest = std::max(config.hidden_size, config.n_heads * config.head_size);
  workspace = nullptr, up = nullptr;
  if (is_large(std::max(widest, whole_width))) on_device.put(workspace, blas_workspace_bytes);
  if (is_large(whole_width)) {
    on_device.put(up, n_rows * whole_width);
    widest = std::max(widest, whole_width);
  }
  on_device.put(operands, n_rows > most_few_rows ? n_rows * operand_stride(widest) : 0);
  on_device.put(products, has_tiles ? n_chosen * config.expert_output_width() : 0);
  on_device.put(assignments, n_sorted);
  on_device.put(places, n_sorted);
  on_device.put(expert_begins, has_tiles ? 2 * n_experts : 0);
  on_device.put(tiles, has_tiles ? tiles_at_most(n_chosen, n_experts) : 0);
  on_device.put(n_tiles, has_tiles ? 1 : 0);

  n_splits = splits_of(static_cast<uint32_t>(std::min<uint64_t>(n_positions, UINT32_MAX - 255)));
  const uint64_t n_partials =
      n_splits > 1 ? std::min<uint64_t>(n_rows, most_split_rows) * config.n_heads * n_splits : 0;
  on_device.put(partial_out, n_partials * config.head_size);
  on_device.put(partial_max, n_partials);
  on_device.put(partial_sum, n_partials);
  return {on_device.used(), in_host.used()};
}

uint64_t StepMemory::bytes(const Config& config, size_t n_rows, uint64_t n_positions) {
  const Bytes counted = StepMemory().place(0, 0, config, n_rows, n_positions);
  return counted.device + counted.host;
}

Result<StepMemory> StepMemory::make(const std::shared_ptr<const Context>& context, const Config& config, size_t n_rows,
                                    uint64_t n_positions, std::shared_ptr<MemoryAccount> account) {
  StepMemory memory;
  const Bytes bytes = memory.place(0, 0, config, n_rows, n_positions);
  FM_ASSIGN(memory.device_, Memory::allocate(context, Memory::Where::device, bytes.device, account, "scratch"));
  FM_ASSIGN(memory.host_, Memory::allocate(context, Memory::Where::host, bytes.host, std::move(account), "scratch"));
  memory.place(memory.device_.address(), memory.host_.address(), config, n_rows, n_positions);
  return memory;
}

}  // namespace finermoe::cuda
