// What one instruction set provides: a table of kernels. The backend divides an operation into tasks, a kernel does one
// task on one thread. Only plain data crosses this header: no inline function, no template (see
// docs/add-an-instruction-set.md for the reason).
//
// Every kernel gives an output element the same bits whatever else is in the same call: which rows and which outputs
// are computed together never shows in the result, except that the number of vectors `n` of a Matmul may choose the
// order of its sums (unless one_order; with narrowed activations there is one order for block formats, and one for BF16
// with up to bf16_few_vectors), and the number of queries of an AttentionTask how they are multiplied, where it is
// narrowed or the cache Q8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/blocks.h"

namespace finermoe {

// Limits that kernels and backend agree on.
constexpr size_t matmul_max_vectors = 264;    // vectors of one Matmul
constexpr size_t matmul_depth_block = 384;    // columns that are packed at a time
constexpr size_t bf16_few_vectors = 96;       // more are multiplied by packed tiles
constexpr size_t few_vectors = 8;             // vectors that go through a panel of blocks in one pass
constexpr size_t tile_outputs = 32;           // widest packed tile; the outputs of a task are a multiple
constexpr size_t attention_max_queries = 96;  // query vectors of one AttentionTask
constexpr size_t attention_key_block = 64;    // positions that are handled at a time

// A row of activations that was narrowed to what weights of a type are multiplied with (FINERMOE_PRECISION_FAST):
//   BF16      [columns] bf16, and zeros up to a multiple of 32
//   Q8, Q4    int8 codes [blocks * 32], then float scales [blocks], then int32 offsets [blocks]
// An offset is -128 times the sum of its block's codes: what the unsigned codes of the weights add too much. A NaN or
// infinity makes its block's scale NaN.

// out[i] = W x[i], or out[i] += W x[i], for n vectors.
struct Matmul {
  const void* const* x;  // [n] pointers to [columns] floats, or to narrowed rows
  bool narrowed;
  float* const* out;   // [n] pointers to [rows]
  size_t n;            // at most matmul_max_vectors
  const void* weight;  // [rows, columns], at any address; in whole panels where it is blocked
  DType dtype;
  size_t rows, columns;
  bool accumulate = false;
  void* scratch;           // Kernels::matmul_scratch(n, columns) bytes, aligned to 64
  bool one_order = false;  // of its sums, for any n, at some cost in speed
};

// Softmax-weighted sums of values for n query vectors of the heads that share one key-value head, over the positions
// [begin, end) as far as a query sees them: the last `window` of its `visible` positions.
struct AttentionTask {
  const float* const* q;                 // [n] pointers to [head_size]
  float* const* out;                     // [n] pointers to [head_size]
  const size_t* visible;                 // [n] positions up to that of each query, which is the last one it sees
  size_t window = SIZE_MAX;              // positions that a query sees at most
  size_t n;                              // at most attention_max_queries
  size_t head_size, width, panel_bytes;  // of backend/kv_cache.h
  const void *keys, *values;             // of one head, in panels
  DType dtype;
  size_t begin, end;  // begin is a multiple of attention_key_block
  float scale;        // of the scores
  bool narrowed;      // queries and shares may be narrowed where that is faster
  // [n] each, or null: then `out` is not yet divided by the total of the shares, which are relative to exp(largest).
  float *largest = nullptr, *total = nullptr;
  void* scratch;  // Kernels::attention_scratch(head_size) bytes, aligned to 64
};

struct Kernels {
  // out[i] = float(in[i]); this and the next two are for types that are not blocked
  void (*widen)(const void* in, DType dtype, size_t n, float* out);
  // out[i] = in[i] rounded to nearest, ties to even
  void (*narrow)(const float* in, DType dtype, size_t n, void* out);
  // out = x / sqrt(mean(x^2) + eps) * weight; out may be x
  void (*rms_norm)(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out);
  // gate[i] = scale * SiLU(gate[i]) * up[i]
  void (*silu_multiply)(float* gate, const float* up, float scale, size_t n);
  // Turns the pairs (x[i], x[half + i]) by the angles given.
  void (*rotate)(float* x, const float* cos, const float* sin, size_t half);
  // The columns [begin, end) of a row of activations [columns], narrowed for weights of a type that narrows() answers
  // true for, into their places in `out`. begin is a multiple of 32, end too, or `columns`. x points to column `begin`.
  void (*narrow_activations)(const float* x, DType weights, size_t columns, size_t begin, size_t end, void* out);
  // Whether products with weights of this type are faster with narrowed activations.
  bool (*narrows)(DType weights);
  void (*matmul)(const Matmul& task);
  void (*attention)(const AttentionTask& task);
  // Bytes of scratch that any Matmul of up to n vectors and so many columns uses; it grows with both.
  size_t (*matmul_scratch)(size_t n, size_t columns);
  // Bytes of scratch that any AttentionTask of this head size uses.
  size_t (*attention_scratch)(size_t head_size);
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx2_vnni {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace finermoe
