// The memory of a step: what a pass brings to the device in one copy, which the host has as well, and scratch.
#pragma once

#include "backend/backend.h"
#include "cuda/context.h"
#include "cuda/kernels.h"

namespace finermoe::cuda {

// All that differs between passes of n rows, one behind the other, at the same places in the host's memory and in the
// device's.
struct PassArrays {
  int32_t* tokens = nullptr;                // [n]
  uint32_t* positions = nullptr;            // [n]
  float *cos = nullptr, *sin = nullptr;     // [n, d / 2]
  KvView* caches = nullptr;                 // [n]
  AttentionRows* attention_rows = nullptr;  // [n]
  TokenChoice* choices = nullptr;           // [n]
  int32_t* not_finite = nullptr;            // [n] the first router logit that is not finite, or -1
  // Of the passes of one row that follow without the host, behind what is at the same place however many they are
  float *next_cos = nullptr, *next_sin = nullptr;  // [n_passes - 1, d / 2]
  TokenChoice* next_choices = nullptr;             // [n_passes - 1]
  uint64_t bytes = 0;

  PassArrays() = default;
  PassArrays(uintptr_t memory, uint64_t n, uint64_t head_size, uint64_t n_passes = 1);
};

class StepMemory {
 public:
  // Of the device and of the host together.
  static uint64_t bytes(const Config& config, size_t n_rows, uint64_t n_positions);
  static Result<StepMemory> make(const std::shared_ptr<const Context>& context, const Config& config, size_t n_rows,
                                 uint64_t n_positions, std::shared_ptr<MemoryAccount> account);

  uintptr_t pass = 0, pass_on_host = 0;              // PassArrays of up to n_rows rows
  Ffn *tables = nullptr, *tables_on_host = nullptr;  // [n_tables, N] experts of a layer
  size_t n_tables = 0;

  Activations activations;
  float *k = nullptr, *v = nullptr;  // [n_rows, n_kv_heads * d]
  float* logits = nullptr;           // [n_logits]
  uint64_t n_logits = 0;
  // Of choosing among these logits, with the arrays of ChooseTokens
  ChosenToken* chosen = nullptr;  // [n_rows]
  ChosenToken* taken = nullptr;   // [most_passes - 1] by the passes that followed
  float *maxima = nullptr, *choosable_maxima = nullptr;
  double *sums = nullptr, *weights = nullptr;
  std::byte* staging = nullptr;  // [staging_bytes] of the host, pinned: what a pass of few rows brings to the host
  uint64_t staging_bytes = 0;
  float* gate_scale = nullptr;        // [n_rows] of the shared expert
  float* group_logits = nullptr;      // [n_rows, G_O R_O] of a separate router
  double* group_scores = nullptr;     // [n_rows, G_O R_O]
  float* exponentials = nullptr;      // [n_rows, N] where the softmax is over all
  float* activated = nullptr;         // [assignments, width of the widest FFN]
  uint16_t* operands = nullptr;       // [n_rows, width of the widest] of a product on tensor cores
  float* up = nullptr;                // [n_rows, width] of an FFN of large products, or null
  std::byte* workspace = nullptr;     // [blas_workspace_bytes] of large products, or null
  float* products = nullptr;          // [assignments, h_e]
  Assignment* assignments = nullptr;  // [assignments]
  int32_t* places = nullptr;          // [assignments]
  uint32_t* expert_begins = nullptr;  // [2, N]
  Tile* tiles = nullptr;              // of any route
  uint32_t* n_tiles = nullptr;        // [1]
  uint32_t n_splits = 1;              // that there is room for
  float *partial_out = nullptr, *partial_max = nullptr, *partial_sum = nullptr;  // kernels.h says how long

 private:
  struct Bytes {
    uint64_t device = 0, host = 0;
  };
  // Places every array, or only counts.
  Bytes place(uintptr_t device, uintptr_t host, const Config& config, uint64_t n_rows, uint64_t n_positions);

  Memory device_, host_;
};

}  // namespace finermoe::cuda
