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

// Scratch that is enough for every instruction set: packed vectors and a packed tile of floats, a tile of BF16 pairs,
// two panels of codes as bytes, or a row of them with its scales.
constexpr size_t matmul_scratch_floats(size_t n, size_t columns) {
  const size_t packed = ((n + 11) / 12 * 12 + tile_outputs) * matmul_depth_block + 16;
  const size_t pairs = n > few_vectors ? bf16_tile_outputs * bf16_depth_block / 2 : 0;
  const size_t codes = (n > few_vectors ? 2 * panel_rows : 2) * blocks_of(columns) * block_columns / sizeof(float) + 16;
  return packed > pairs ? (packed > codes ? packed : codes) : (pairs > codes ? pairs : codes);
}
// Bytes of a row of narrowed activations, whichever weights it is for; a multiple of 64.
constexpr size_t narrowed_row_bytes(size_t columns) { return blocks_of(columns) * block_columns * sizeof(uint16_t); }
constexpr size_t attention_scratch_floats(size_t head_size) {
  const size_t padded = (head_size + tile_outputs - 1) / tile_outputs * tile_outputs;
  const size_t tiles = tile_outputs * (padded + attention_key_block);  // of keys, and of values
  return attention_max_queries * (2 * padded + attention_key_block + 16) + tiles + 16;
}

// Heads of queries, keys or values that one task computes: their rows of the weights fill whole panels.
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

// Neighbouring rows of one session, whose positions are divided into parts.
struct AttentionBlock {
  size_t row, n_rows, n_parts;
  size_t first_task, first_partial;  // tasks [part][kv_head], partial sums [kv_head][part][row, head]
};

// Parts of so many positions: enough for the largest machines, none shorter than its task is worth.
constexpr size_t attention_parts(size_t n_positions) { return std::min<size_t>(32, (n_positions + 255) / 256); }

class StepMemory {
 public:
  static uint64_t bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers);
  static Result<StepMemory> make(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_workers,
                                 std::shared_ptr<MemoryAccount> account);

  Activations activations;
  // Of the pass under way
  int32_t* tokens = nullptr;                           // [n_rows]
  uint32_t *positions = nullptr, *sessions = nullptr;  // [n_rows]
  float* rope_frequencies = nullptr;                   // [d / 2]
  float *rope_cos = nullptr, *rope_sin = nullptr;      // [n_rows, d / 2]
  int32_t* not_finite = nullptr;                       // [n_rows] a logit of the first router that has one, or -1

  float* ffn = nullptr;                        // [assignments, width of the widest FFN]
  std::byte* quantized_ffn = nullptr;          // the same, quantized: rows of narrowed_row_bytes(width)
  std::byte* inputs[2] = {};                   // [n_rows] inputs of a product, narrowed: for BF16, for block formats
  float* group_scores = nullptr;               // [n_rows, G_O R_O]
  Assignment* assignments = nullptr;           // [n_rows * G_O T_I], at least [n_rows]
  ExpertGroup* groups = nullptr;               // [experts that can be chosen in one step], at least [1]
  uint32_t* expert_ends = nullptr;             // [N]
  AttentionBlock* attention_blocks = nullptr;  // [n_rows]
  size_t n_partials = 0;                       // that there is room for
  float *sums = nullptr, *largest = nullptr, *totals = nullptr;  // [n_partials, d], [n_partials], the same
  uint32_t* parts_done = nullptr;                                // [n_partials] zeros between operations

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
