// What the kernels compute. Each function enqueues work on a stream of the current context and answers the driver's
// code; every pointer is into the device's memory. Only plain data crosses this header: one side of it is compiled by
// nvcc.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/token_choice.h"
#include "cuda/kv_layout.h"

namespace finermoe::cuda {

// Limits that kernels and the step agree on.
constexpr uint32_t most_few_rows = 16;      // rows of a pass whose products are computed without tiles
constexpr uint32_t tile_vectors = 32;       // vectors of a tile of a product of more, at least
constexpr uint32_t attention_queries = 16;  // queries of one block of attention
constexpr uint32_t most_products = 3;       // of the same vectors that are computed in one launch
constexpr uint32_t tensor_queries = 64;     // of one that computes on tensor cores
constexpr uint32_t most_head_size = 256;
constexpr uint32_t most_split_rows = 32;  // rows of a pass whose positions are split
constexpr uint32_t most_splits = 32;      // of one row
constexpr uint32_t most_passes = 16;      // that follow each other without the host

// What tensor cores take weights of a type as, and activations with them: F32 for what is not computed there.
constexpr DType operand_type(DType weights) { return is_blocked(weights) ? DType::bf16 : weights; }
// Elements from one row of such activations to the next: a row begins at a multiple of 16 bytes.
template <class N>
constexpr N operand_stride(N columns) {
  return (columns + 7) / 8 * 8;
}

// A matrix [rows, columns], or a vector [rows] with columns 0. Empty where data is null.
struct Matrix {
  const std::byte* data;
  DType dtype;
  uint32_t rows, columns;
  bool operator==(const Matrix&) const = default;
};

// A row's cache: its first head, and how heads lie.
struct KvView {
  std::byte* heads;
  KvLayout layout;
};

// The matrices of an expert, or of an FFN alone.
struct Ffn {
  Matrix gate, up, down;
  bool operator==(const Ffn&) const = default;
};

// A token and the factor of its expert's output.
struct Assignment {
  uint32_t token;
  float weight;
};

// Some of the assignments of one expert.
struct Tile {
  uint32_t expert, begin, count;
};

// Rows of one session whose queries one block of attention takes.
struct AttentionRows {
  uint32_t first, count;
};

// out[i] = table[tokens[i]]                                                out [n, columns]
int enqueue_embed(void* stream, const int32_t* tokens, const Matrix& table, uint32_t n, float* out);

// out = x / sqrt(mean(x^2) + eps) * weight                                 x, out [n, weight.rows]; out may be x
int enqueue_rms_norm(void* stream, const float* x, const Matrix& weight, float eps, uint32_t n, float* out);

// out += x                                                                 x, out [n]
int enqueue_add(void* stream, const float* x, uint64_t n, float* out);

struct Linear {
  const float* x;  // [n, columns]
  Matrix weight;
  uint32_t n;
  bool accumulate;
  bool batch_invariant;  // the same order of summation for any n
  uint16_t* operands;    // [n, operand_stride(columns)] scratch for x in 16 bits, for tensor cores; null: float32
  float* out;            // [n, rows]
  bool operator==(const Linear&) const = default;
};
// out = x W^T, or out += that.
int enqueue_linear(void* stream, const Linear& task);
// The same of more than most_few_rows rows on tensor cores, where `operands` are x rounded already: up to most_products
// that differ in `weight` and `out` alone, with matrices of one operand_type and as many columns.
int enqueue_rounded_linear(void* stream, const Linear* tasks, uint32_t n_tasks);
// out = x in 16 bits.                                          x [n, columns], out [n, operand_stride(columns)]
int enqueue_round(void* stream, const float* x, uint32_t n, uint32_t columns, DType type, uint16_t* out);

struct StoreKv {
  float *q, *k, *v;  // [n, n_heads * d], [n, n_kv_heads * d], the same; q and k are rotated in place
  Matrix q_bias, k_bias, v_bias;
  const float *cos, *sin;     // [n, d / 2]
  const uint32_t* positions;  // [n]
  const KvView* caches;       // [n]
  uint32_t n, n_heads, n_kv_heads, head_size, layer;
  bool operator==(const StoreKv&) const = default;
};
// Adds biases, rotates queries and keys, and puts keys and values into the rows' caches.
int enqueue_store_kv(void* stream, const StoreKv& task);

struct Attend {
  const float* q;             // [n, n_heads * d]
  const KvView* caches;       // [n]
  const uint32_t* positions;  // [n]
  const AttentionRows* rows;  // [n_blocks]
  uint32_t n_rows, n_blocks, n_heads, n_kv_heads, head_size, layer;
  uint32_t window;       // positions that a row sees; 0: all
  uint32_t most_splits;  // of any row of this pass; 1: no position is split, and the partial arrays are not used
  float scale;
  float *partial_out, *partial_max, *partial_sum;  // [n, n_heads, most_splits, d], [n, n_heads, most_splits], the same
  float* out;                                      // [n, n_heads * d]
  bool operator==(const Attend&) const = default;
};
// Into how many splits a row that sees this many positions is divided.
constexpr uint32_t splits_of(uint32_t n_positions) {
  const uint32_t n = (n_positions + 255) / 256;
  return n < most_splits ? n : most_splits;
}
int enqueue_attention(void* stream, const Attend& task);
// On tensor cores, without splits. Keys, values, queries and probabilities are rounded to BF16.
int enqueue_tensor_attention(void* stream, const Attend& task);

struct ChooseExperts {
  uint32_t n_components, n_groups, group_size, top_inter;  // G_O, G_O R_O, G_I R_I, T_I
  bool softmax_over_all, norm_topk_prob;
  const float* logits;        // [n, N]
  const float* group_logits;  // [n, G_O R_O] of a separate router, or null
  double* group_scores;       // [n, G_O R_O] scratch
  float* exponentials;        // [n, N] scratch where softmax_over_all
  int32_t* experts;           // [n, k]
  float* weights;             // [n, k]
  int32_t* groups;            // [n, G_O], or null
  int32_t* not_finite;        // [n] in: -1; out: the row's first non-finite logit, if any
  uint32_t n;
  bool operator==(const ChooseExperts&) const = default;
};
int enqueue_choose_experts(void* stream, const ChooseExperts& task);

// An FFN for each of some assignments: those of a route, or one for each of n tokens.
struct FfnTask {
  const float* x;  // [n, hidden]
  uint32_t n, hidden, width, out_width;
  // Routed: experts whose gate has no data are left out. Otherwise `single` alone, and `experts` null.
  const Ffn* experts;  // [n_experts]
  Ffn single;
  uint32_t n_experts, experts_per_token;
  const int32_t* chosen;  // [n, experts_per_token]
  const float* weights;   // [n, experts_per_token]; of `single`: [n], or null for 1
  // In which type tensor cores compute it, where n is more than most_few_rows; F32: they do not.
  DType operand;
  uint16_t* operands;  // [n, operand_stride(hidden)] scratch for x in that type
  float* activated;    // [assignments, width], or in that type [assignments, operand_stride(width)]
  // Of more than most_few_rows rows
  uint32_t* expert_begins;  // [2, n_experts] scratch: the first assignment and the first tile of each
  Assignment* assignments;  // [n * experts_per_token] sorted by expert
  int32_t* places;          // [n * experts_per_token] of a token's slot among them; -1: left out
  Tile* tiles;              // [tiles_at_most()]
  uint32_t* n_tiles;        // [1]
  float* products;          // [n * experts_per_token, out_width]
  bool accumulate;
  float* out;  // [n, hidden]

  constexpr uint32_t n_assignments() const { return n * experts_per_token; }
  bool operator==(const FfnTask&) const = default;
};
// Of any route of so many assignments, in tiles of so many vectors.
template <class N>
constexpr N tiles_at_most(N n_assignments, N n_experts, N vectors = tile_vectors) {
  return n_assignments / vectors + (n_assignments < n_experts ? n_assignments : n_experts);
}
// Sorts the assignments of a route by expert, and cuts them into tiles.
int enqueue_group(void* stream, const FfnTask& task);
// activated = weight * SiLU(gate x) * (up x)
int enqueue_activate(void* stream, const FfnTask& task);
// operands = weight * SiLU(gate) * up, of one FFN on tensor cores                      gate, up [n, width]
int enqueue_combine_gate(void* stream, const FfnTask& task, const float* gate, const float* up);
// out (+)= the down projections of all, each in its component's slice. Not of one FFN whose activations are rounded.
int enqueue_project(void* stream, const FfnTask& task);
// x[i] = 1 / (1 + exp(-x[i]))                                              x [n]
int enqueue_sigmoid(void* stream, uint32_t n, float* x);

constexpr uint32_t run_length = 256;        // logits that are looked at together
constexpr uint32_t most_candidates = 2048;  // that are weighed against each other, of any number of logits

struct ChooseTokens {
  const float* logits;         // [n, vocab]
  const TokenChoice* choices;  // [n]
  // Of each run of logits, scratch [n, n_runs()]: the largest, the largest below n_choosable, the sum of exponentials,
  // and that of weights where it is needed
  float *maxima, *choosable_maxima;
  double *sums, *weights;
  ChosenToken* out;  // [n]
  uint32_t n, vocab, n_choosable;

  constexpr uint32_t n_runs() const { return (vocab + run_length - 1) / run_length; }
  bool operator==(const ChooseTokens&) const = default;
};
// Chooses a token for each row, or leaves it to the host; 1 / temperature is finite. With more than most_candidates
// ids, a larger top_k than half of n_runs() is likely to be left to the host.
int enqueue_choose_tokens(void* stream, const ChooseTokens& task);

// The next of several passes of one row: its token is the one chosen, and it is one position further.
struct NextPass {
  const ChosenToken* chosen;
  const float *next_cos, *next_sin;  // [n_angles]
  const TokenChoice* next_choice;
  // Of the pass that ends; then of the next one
  int32_t* token;
  uint32_t* position;
  float *cos, *sin;  // [n_angles]
  TokenChoice* choice;
  int32_t* not_finite;
  ChosenToken* out;  // what was chosen; the id is -1 if a logit of the pass's routers was not finite
  uint32_t n_angles;
  bool operator==(const NextPass&) const = default;
};
int enqueue_next_pass(void* stream, const NextPass& task);

struct MoveDown {
  KvView cache;
  uint32_t n_layers, n_kv_heads, begin, end, by;
  const float *cos, *sin;  // [d / 2] of the angle back
};
int enqueue_move_down(void* stream, const MoveDown& task);

}  // namespace finermoe::cuda
