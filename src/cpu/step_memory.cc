#include "cpu/step_memory.h"

#include <algorithm>

namespace finermoe {
namespace {

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

// Where each array begins, in units of 4 bytes; every array is aligned to 64 bytes.
struct StepMemory::Layout {
  uint64_t activations, tokens, positions, sessions, rope_frequencies, rope_cos, rope_sin, not_finite;
  uint64_t ffn, quantized_ffn, inputs[2], group_scores, assignments, groups, expert_ends, attention_blocks, sums,
      largest, totals, parts_done, workers, total;
  uint64_t n_partials;
  uint64_t rows, attention, worker_total;  // within a worker's area

  Layout(const Config& config, uint64_t n_rows, uint64_t n_positions, uint64_t n_workers) {
    const RouterShape& router = config.router;
    const uint64_t n_experts = config.is_moe() ? router.n_experts() : 0;
    const uint64_t n_chosen = n_rows * (config.is_moe() ? router.n_experts_per_token() : 0);
    const uint64_t whole_width = std::max(config.intermediate_size, config.shared_expert_width);
    const uint64_t n = std::min<uint64_t>(n_rows, matmul_max_vectors);

    uint64_t end = 0;
    auto add = [&](uint64_t count) {
      const uint64_t begin = end;
      end += round_up(count, 16);
      return begin;
    };
    activations = add(Activations::bytes(config, n_rows) / 4);
    tokens = add(n_rows);
    positions = add(n_rows);
    sessions = add(n_rows);
    rope_frequencies = add(config.head_size / 2);
    rope_cos = add(n_rows * config.head_size / 2);
    rope_sin = add(n_rows * config.head_size / 2);
    not_finite = add(n_rows);
    ffn = add(std::max(n_chosen * config.expert_width, n_rows * whole_width));
    quantized_ffn =
        add(std::max(n_chosen * narrowed_row_bytes(config.expert_width), n_rows * narrowed_row_bytes(whole_width)) / 4);
    const uint64_t input_width = std::max(config.hidden_size, config.n_heads * config.head_size);
    for (uint64_t& input : inputs) input = add(n_rows * narrowed_row_bytes(input_width) / 4);
    group_scores = add(router.separate ? n_rows * router.n_groups() : 0);
    assignments = add(std::max(n_chosen, n_rows) * sizeof(Assignment) / 4);
    groups = add(std::max<uint64_t>(std::min(n_experts, n_chosen), 1) * sizeof(ExpertGroup) / 4);
    expert_ends = add(n_experts);
    attention_blocks = add(n_rows * sizeof(AttentionBlock) / 4);
    // Room for one block at least; several are computed one after another where there is not enough.
    const uint64_t parts = attention_parts(n_positions);
    const uint64_t queries =
        std::min(n_rows * config.n_heads, std::max(attention_max_queries * config.n_kv_heads, config.n_heads));
    n_partials = parts > 1 ? parts * queries : 0;
    sums = add(n_partials * config.head_size);
    largest = add(n_partials);
    totals = add(n_partials);
    parts_done = add(n_partials);
    workers = end;

    end = 0;
    add(matmul_scratch_floats(n, std::max({input_width, whole_width, config.expert_width})));
    rows = add(n * std::max<uint64_t>(max_task_rows, heads_per_task(config.head_size) * config.head_size));
    attention = add(attention_scratch_floats(config.head_size));
    worker_total = end;
    total = workers + n_workers * worker_total;
  }
};

uint64_t StepMemory::bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers) {
  return Layout(config, n_rows, n_positions, n_workers).total * sizeof(float);
}

Result<StepMemory> StepMemory::make(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                                    std::shared_ptr<MemoryAccount> account) {
  const Layout layout(config, n_rows, n_positions, n_workers);
  StepMemory memory;
  FM_ASSIGN(memory.buffer_, Buffer::allocate(std::move(account), layout.total * sizeof(float), "scratch"));
  float* const base = memory.buffer_.data<float>();
  const auto place = [&]<class T>(T*& array, uint64_t offset) { array = reinterpret_cast<T*>(base + offset); };
  memory.activations = Activations::in(DevicePtr(memory.buffer_.data() + layout.activations * 4), config, n_rows);
  place(memory.tokens, layout.tokens);
  place(memory.positions, layout.positions);
  place(memory.sessions, layout.sessions);
  place(memory.rope_frequencies, layout.rope_frequencies);
  place(memory.rope_cos, layout.rope_cos);
  place(memory.rope_sin, layout.rope_sin);
  place(memory.not_finite, layout.not_finite);
  place(memory.ffn, layout.ffn);
  place(memory.quantized_ffn, layout.quantized_ffn);
  for (size_t i = 0; i < 2; i++) place(memory.inputs[i], layout.inputs[i]);
  place(memory.group_scores, layout.group_scores);
  place(memory.assignments, layout.assignments);
  place(memory.groups, layout.groups);
  place(memory.expert_ends, layout.expert_ends);
  place(memory.attention_blocks, layout.attention_blocks);
  memory.n_partials = layout.n_partials;
  place(memory.sums, layout.sums);
  place(memory.largest, layout.largest);
  place(memory.totals, layout.totals);
  place(memory.parts_done, layout.parts_done);
  place(memory.workers_, layout.workers);
  memory.worker_floats_ = layout.worker_total;
  memory.rows_offset_ = layout.rows;
  memory.attention_offset_ = layout.attention;
  return memory;
}

}  // namespace finermoe
