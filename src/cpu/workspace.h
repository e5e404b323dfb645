// Scratch of one step on the CPU: arrays of the whole step, and one area for each worker of the pool.
#pragma once

#include "backend/backend.h"
#include "cpu/kernels.h"

namespace finermoe {

// Intermediate columns that one task of an FFN computes at most, and output rows of one task of a linear.
constexpr size_t max_task_rows = 512;

// Scratch that is enough for every instruction set.
constexpr size_t matmul_scratch_floats(size_t n) {
  return ((n + 11) / 12 * 12 + tile_outputs) * matmul_depth_block + 16;
}
constexpr size_t attention_scratch_floats(size_t head_size) {
  const size_t padded = (head_size + tile_outputs - 1) / tile_outputs * tile_outputs;
  return (2 * attention_max_queries + 2 * attention_key_block) * padded +
         2 * attention_max_queries * attention_key_block + 32;
}

// A token, and the factor of its FFN's output.
struct Assignment {
  uint32_t token;
  float weight;
};

// The assignments [begin, end) that one expert computes.
struct ExpertGroup {
  uint32_t expert, begin, end;
};

class CpuWorkspace : public Workspace {
 public:
  static uint64_t bytes(const Config& config, size_t n_rows, size_t n_workers);
  static Result<std::unique_ptr<CpuWorkspace>> make(const Config& config, size_t n_rows, size_t n_workers,
                                                    std::shared_ptr<MemoryAccount> account);

  float* activations = nullptr;       // [assignments, width of the widest FFN]
  float* group_scores = nullptr;      // [n_rows, G_O R_O]
  Assignment* assignments = nullptr;  // [n_rows * G_O T_I], at least [n_rows]
  ExpertGroup* groups = nullptr;      // [experts that can be chosen in one step], at least [1]
  uint32_t* expert_ends = nullptr;    // [N]
  uint32_t* query_blocks = nullptr;   // [n_rows + 1] first rows of the blocks of attention

  float* matmul(size_t worker) const { return worker_area(worker); }
  float* rows(size_t worker) const { return worker_area(worker) + rows_offset_; }  // [n, max_task_rows] or [n, d]
  float* attention(size_t worker) const { return worker_area(worker) + attention_offset_; }

 private:
  struct Layout;
  float* worker_area(size_t worker) const { return workers_ + worker * worker_floats_; }

  Buffer buffer_;
  float* workers_ = nullptr;
  size_t worker_floats_ = 0, rows_offset_ = 0, attention_offset_ = 0;
};

}  // namespace finermoe
