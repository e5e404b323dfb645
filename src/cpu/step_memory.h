// Scratch of one step on the CPU: arrays of the whole step, and one area for each worker of the pool.
#pragma once

#include <algorithm>
#include <numeric>

#include "backend/backend.h"
#include "cpu/kernels.h"

namespace finermoe {

constexpr size_t ceil_div(size_t a, size_t b) { return (a + b - 1) / b; }

// Intermediate columns that one task of an FFN computes at most, and output rows of one task of a linear.
constexpr size_t max_task_rows = 512;

// Bytes of a row of quantized activations, enough for any form: an odd number of cache lines, so that adjacent rows do
// not lie in the same sets of a cache.
constexpr size_t quantized_row_bytes(size_t columns) {
  return (blocks_of(columns) | 1) * block_columns * sizeof(uint16_t);
}

// Where an array of two has what belongs to a form other than floats.
constexpr size_t place_of(Form form) { return form == Form::bf16 ? 0 : 1; }

// Heads of queries, keys or values that one task computes, so that their rows of the weights fill whole panels.
constexpr uint64_t heads_per_task(uint64_t head_size) { return panel_rows / std::gcd(head_size, uint64_t{panel_rows}); }

// A token, and the factor of its FFN's output.
struct Assignment {
  uint32_t token;
  float weight;
};

// The assignments [begin, end) that one expert computes.
struct ExpertGroup {
  uint32_t expert, begin, end;
};

// Adjacent rows of one session, whose positions are divided into KV splits.
struct AttentionBlock {
  size_t row, n_rows, n_splits;
  size_t first_task, first_partial;  // tasks [split][kv_head], partial results [kv_head][split][row, head]
};

// The number of KV splits for this many positions: enough tasks for the largest machines, none too short to be
// worthwhile.
constexpr size_t kv_splits(size_t n_positions) { return std::min<size_t>(32, (n_positions + 255) / 256); }

// What computes products, of which the workers' scratch has room for any.
struct ScratchUsers {
  int32_t best_isa;  // this instruction set, and all that come before it
  bool blas;
};

class StepMemory {
 public:
  static uint64_t bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                        const ScratchUsers& users);
  static Result<StepMemory> make(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                                 const ScratchUsers& users, std::shared_ptr<MemoryAccount> account);

  Activations activations;
  // Of the current pass
  int32_t* tokens = nullptr;                           // [n_rows]
  uint32_t *positions = nullptr, *sessions = nullptr;  // [n_rows]
  float* rope_frequencies = nullptr;                   // [d / 2]
  float *rope_cos = nullptr, *rope_sin = nullptr;      // [n_rows, d / 2]
  int32_t* not_finite = nullptr;                       // [n_rows] the first router logit that is not finite, or -1

  float* ffn = nullptr;                              // [assignments, width of the widest FFN]
  std::byte* quantized_ffn = nullptr;                // the same, quantized: rows of quantized_row_bytes(width)
  std::byte* inputs[2] = {};                         // [n_rows] quantized activations, at place_of() their form
  float* group_scores = nullptr;                     // [n_rows, G_O R_O]
  Assignment* assignments = nullptr;                 // [n_rows * G_O T_I], at least [n_rows]
  ExpertGroup* groups = nullptr;                     // [experts that can be chosen in one step], at least [1]
  uint32_t* expert_ends = nullptr;                   // [N]
  AttentionBlock* attention_blocks = nullptr;        // [n_rows]
  size_t n_partials = 0;                             // that there is room for
  float* split_out = nullptr;                        // [n_partials, d] not divided by split_sum
  float *split_max = nullptr, *split_sum = nullptr;  // [n_partials] running max and sum
  uint32_t* splits_done = nullptr;                   // [n_partials] zeros between operations

  float* matmul(size_t worker) const { return worker_area(worker); }
  float* rows(size_t worker) const { return worker_area(worker) + rows_offset_; }  // [n, max_task_rows] or [n, d]
  float* attention(size_t worker) const { return worker_area(worker) + attention_offset_; }

 private:
  // Places every array in `memory`, or only counts; returns the bytes of all.
  uint64_t place(void* memory, const Config& config, uint64_t n_rows, uint64_t n_positions, uint64_t n_workers,
                 const ScratchUsers& users);
  float* worker_area(size_t worker) const { return workers_ + worker * worker_floats_; }

  Buffer buffer_;
  float* workers_ = nullptr;
  size_t worker_floats_ = 0, rows_offset_ = 0, attention_offset_ = 0;
};

}  // namespace finermoe
