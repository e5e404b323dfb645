#include "cpu/step_memory.h"

#include <algorithm>
#include <type_traits>

#include "base/places.h"
#include "cpu/blas.h"
#include "cpu/cpu_device.h"

namespace finermoe {
namespace {

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// The most scratch, in floats, that any set of kernels needs up to the best one, so that the memory of a step does not
// depend on the instruction set that a host chose. No other is asked, since the query itself is code of that set.
template <class... Sizes>
uint64_t scratch_floats(int32_t best_isa, size_t (*Kernels::*scratch)(Sizes...), std::type_identity_t<Sizes>... sizes) {
  size_t bytes = 0;
  for (int32_t isa = FINERMOE_ISA_PORTABLE; isa <= best_isa; isa++) {
    bytes = std::max(bytes, (kernels_of(isa).*scratch)(sizes...));
  }
  return bytes / sizeof(float);
}

}  // namespace

uint64_t StepMemory::place(void* memory, const Config& config, uint64_t n_rows, uint64_t n_positions,
                           uint64_t n_workers, const ScratchUsers& users) {
  const RouterShape& router = config.router;
  const uint64_t n_experts = config.is_moe() ? router.n_experts() : 0;
  const uint64_t n_chosen = n_rows * (config.is_moe() ? router.n_experts_per_token() : 0);
  const uint64_t whole_width = std::max(config.intermediate_size, config.shared_expert_width);
  const uint64_t input_width = std::max(config.hidden_size, config.n_heads * config.head_size);

  Places places(memory);
  std::byte* of_activations = nullptr;
  places.put(of_activations, Activations::bytes(config, n_rows));
  activations = Activations::in(DevicePtr(of_activations), config, n_rows);
  places.put(tokens, n_rows);
  places.put(positions, n_rows);
  places.put(sessions, n_rows);
  places.put(rope_frequencies, config.head_size / 2);
  places.put(rope_cos, n_rows * config.head_size / 2);
  places.put(rope_sin, n_rows * config.head_size / 2);
  places.put(not_finite, n_rows);
  places.put(ffn, std::max(n_chosen * config.expert_width, n_rows * whole_width));
  places.put(quantized_ffn,
             std::max(n_chosen * quantized_row_bytes(config.expert_width), n_rows * quantized_row_bytes(whole_width)));
  for (std::byte*& input : inputs) places.put(input, n_rows * quantized_row_bytes(input_width));
  places.put(group_scores, router.separate ? n_rows * router.n_groups() : 0);
  places.put(assignments, std::max(n_chosen, n_rows));
  places.put(groups, std::max<uint64_t>(std::min(n_experts, n_chosen), 1));
  places.put(expert_ends, n_experts);
  places.put(attention_blocks, n_rows);

  // Enough for one block; if several do not fit, they are computed one after another.
  const uint64_t splits = kv_splits(n_positions);
  const uint64_t queries =
      std::min(n_rows * config.n_heads, std::max(attention_max_queries * config.n_kv_heads, config.n_heads));
  n_partials = splits > 1 ? splits * queries : 0;
  places.put(split_out, n_partials * config.head_size);
  places.put(split_max, n_partials);
  places.put(split_sum, n_partials);
  places.put(splits_done, n_partials);

  const uint64_t n = std::min<uint64_t>(n_rows, matmul_max_vectors);
  const uint64_t most_columns = std::max({input_width, whole_width, config.expert_width});
  const uint64_t most_rows = std::max<uint64_t>(max_task_rows, heads_per_task(config.head_size) * config.head_size);
  const uint64_t blas_floats = users.blas ? Blas::matmul_scratch(n) / sizeof(float) : 0;
  rows_offset_ =
      round_up(std::max(scratch_floats(users.best_isa, &Kernels::matmul_scratch, n, most_columns), blas_floats), 16);
  attention_offset_ = rows_offset_ + round_up(n * most_rows, 16);
  worker_floats_ =
      attention_offset_ + round_up(scratch_floats(users.best_isa, &Kernels::attention_scratch, config.head_size), 16);
  places.put(workers_, n_workers * worker_floats_);
  return places.used();
}

uint64_t StepMemory::bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                           const ScratchUsers& users) {
  return StepMemory().place(nullptr, config, n_rows, n_positions, n_workers, users);
}

Result<StepMemory> StepMemory::make(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                                    const ScratchUsers& users, std::shared_ptr<MemoryAccount> account) {
  StepMemory memory;
  const uint64_t bytes = StepMemory::bytes(config, n_rows, n_positions, n_workers, users);
  FM_ASSIGN(memory.buffer_, Buffer::allocate(std::move(account), bytes, "scratch"));
  memory.place(memory.buffer_.data(), config, n_rows, n_positions, n_workers, users);
  return memory;
}

}  // namespace finermoe
