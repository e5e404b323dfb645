#include "cpu/workspace.h"

#include <algorithm>

namespace finermoe {
namespace {

constexpr uint64_t round_up(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

}  // namespace

// Where each array begins, in units of 4 bytes; every array is aligned to 64 bytes.
struct CpuWorkspace::Layout {
  uint64_t activations, group_scores, assignments, groups, expert_ends, query_blocks, workers, total;
  uint64_t rows, attention, worker_total;  // within a worker's area

  Layout(const Config& config, uint64_t n_rows, uint64_t n_workers) {
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
    activations = add(std::max(n_chosen * config.expert_width, n_rows * whole_width));
    group_scores = add(router.separate ? n_rows * router.n_groups() : 0);
    assignments = add(std::max(n_chosen, n_rows) * sizeof(Assignment) / 4);
    groups = add(std::max<uint64_t>(std::min(n_experts, n_chosen), 1) * sizeof(ExpertGroup) / 4);
    expert_ends = add(n_experts);
    query_blocks = add(n_rows + 1);
    workers = end;

    end = 0;
    add(matmul_scratch_floats(n));
    rows = add(n * std::max<uint64_t>(max_task_rows, config.head_size));
    attention = add(attention_scratch_floats(config.head_size));
    worker_total = end;
    total = workers + n_workers * worker_total;
  }
};

uint64_t CpuWorkspace::bytes(const Config& config, size_t n_rows, size_t n_workers) {
  return Layout(config, n_rows, n_workers).total * sizeof(float);
}

Result<std::unique_ptr<CpuWorkspace>> CpuWorkspace::make(const Config& config, size_t n_rows, size_t n_workers,
                                                         std::shared_ptr<MemoryAccount> account) {
  const Layout layout(config, n_rows, n_workers);
  auto workspace = std::make_unique<CpuWorkspace>();
  FM_ASSIGN(workspace->buffer_,
            Buffer::allocate(std::move(account), layout.total * sizeof(float), "the backend's scratch"));
  float* base = workspace->buffer_.data<float>();
  workspace->activations = base + layout.activations;
  workspace->group_scores = base + layout.group_scores;
  workspace->assignments = reinterpret_cast<Assignment*>(base + layout.assignments);
  workspace->groups = reinterpret_cast<ExpertGroup*>(base + layout.groups);
  workspace->expert_ends = reinterpret_cast<uint32_t*>(base + layout.expert_ends);
  workspace->query_blocks = reinterpret_cast<uint32_t*>(base + layout.query_blocks);
  workspace->workers_ = base + layout.workers;
  workspace->worker_floats_ = layout.worker_total;
  workspace->rows_offset_ = layout.rows;
  workspace->attention_offset_ = layout.attention;
  return workspace;
}

}  // namespace finermoe
