// What one instruction set provides: a table of kernels. The backend divides an operation into tasks, a kernel computes
// one task on one thread. Only plain data crosses this header: no inline function, no template
// (docs/add-an-instruction-set.md says why).
//
// An output element has the same bits whatever other rows and outputs the same call computes. There are two exceptions:
// - The number of vectors `n` of a Matmul may choose the order in which it sums, unless the task is batch_invariant or
//   as_alone.
//   With activations in blocks the order is always the same, and with BF16 ones up to bf16_few_vectors, except with
//   AMX.
// - The number of queries of an AttentionTask may choose the kernel, if it is quantized or the cache is Q8.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/blocks.h"

namespace finermoe {

// Limits that kernels and backend agree on.
constexpr size_t matmul_max_vectors = 264;    // vectors of one Matmul
constexpr size_t matmul_depth_block = 384;    // columns that are packed at a time
constexpr size_t bf16_few_vectors = 96;       // BF16: more vectors are multiplied by packed tiles
constexpr size_t tile_outputs = 32;           // widest packed tile; the outputs of a task are a multiple
constexpr size_t attention_max_queries = 96;  // query vectors of one AttentionTask
constexpr size_t attention_key_block = 64;    // positions that attention computes at a time

// The form of a row of activations. FINERMOE_PRECISION_FAST permits the two that round.
enum class Form : uint8_t {
  floats,  // [columns]
  bf16,    // [columns], and zeros up to a multiple of 32
  blocks,  // int8 codes [blocks * 32], then float scales [blocks], then int32 offsets [blocks]
};
// With weights of a block format, which are stored as unsigned codes, 128 too large: an offset, -128 times the sum of
// its block's codes, corrects for that. A NaN or infinity makes its block's scale NaN.

// out[i] = W x[i], or out[i] += W x[i], for n vectors.
struct Matmul {
  const void* const* x;  // [n] pointers to rows of activations
  Form form = Form::floats;
  float* const* out;   // [n] pointers to [rows]
  size_t n;            // at most matmul_max_vectors
  const void* weight;  // [rows, columns], at any address; in whole panels where it is blocked
  DType dtype;
  size_t rows, columns;
  bool accumulate = false;
  void* scratch;                   // Kernels::matmul_scratch(n, columns) bytes, aligned to 64
  bool batch_invariant = false;    // the same order of summation for any n, at some cost in speed
  bool as_alone = false;           // the order of n = 1 for each vector; also at some cost
  size_t prefetch = 0;             // Tuning::prefetch
  bool rows_side_by_side = false;  // Tuning::rows_side_by_side
};

// Attention of n query vectors, all of heads that share one key-value head, over the positions [begin, end). A query
// sees the last `window` of its `visible` positions.
struct AttentionTask {
  const float* const* q;                 // [n] pointers to [head_size]
  float* const* out;                     // [n] pointers to [head_size]
  const size_t* visible;                 // [n] positions up to the last one that each query sees
  size_t window = SIZE_MAX;              // positions that a query sees at most
  size_t n;                              // at most attention_max_queries
  size_t head_size, width, panel_bytes;  // of cpu/kv_layout.h
  const void *keys, *values;             // of one head, in panels,
  size_t block_shift = 63;               // 2^block_shift positions together, at least attention_key_block;
  size_t block_stride = 0;               // bytes from there to the next ones
  DType dtype;
  size_t begin, end;  // begin is a multiple of attention_key_block
  float scale;        // of the scores
  bool quantized;     // queries and probabilities may be quantized where that is faster,
  bool bf16_dots;     // to BF16 too (Tuning::bf16_dots)
  // [n] each, or null. Where given, they receive the running max of the scores and the running sum of the
  // probabilities, and `out` is not divided by that sum: it is one of several splits to be merged.
  float *max = nullptr, *sum = nullptr;
  void* scratch;  // Kernels::attention_scratch(head_size) bytes, aligned to 64
};

struct Kernels {
  // Whether products of many vectors should be divided into fewer tasks of more rows: each reads all vectors again.
  bool large_tasks = false;
  // out[i] = float(in[i]). This function and the next two take types that are not blocked.
  void (*widen)(const void* in, DType dtype, size_t n, float* out);
  // out[i] = in[i] as an element of `dtype`, rounded to nearest, ties to even
  void (*round_to)(const float* in, DType dtype, size_t n, void* out);
  // out = x / sqrt(mean(x^2) + eps) * weight; out may be x
  void (*rms_norm)(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out);
  // gate[i] = scale * SiLU(gate[i]) * up[i]
  void (*silu_multiply)(float* gate, const float* up, float scale, size_t n);
  // Rotates the pairs (x[i], x[half + i]) by the given angles.
  void (*rotate)(float* x, const float* cos, const float* sin, size_t half);
  // Quantizes columns [begin, end) of a row of activations [columns] into their places in the row `out` of a form that
  // fast_form() returns. x points to column `begin`. begin is a multiple of 32; end is one too, or `columns`.
  void (*quantize_activations)(const float* x, Form form, size_t columns, size_t begin, size_t end, void* out);
  // The form in which activations are multiplied fastest with weights of this type, n vectors at a time. bf16_dots:
  // Tuning::bf16_dots.
  Form (*fast_form)(DType weights, size_t n, bool bf16_dots);
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
namespace amx {
extern const Kernels kernels;
}

}  // namespace finermoe
