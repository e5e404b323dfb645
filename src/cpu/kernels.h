// What one instruction set provides: a table of kernels. The backend divides an operation into tasks, a kernel does one
// task on one thread. Only plain data crosses this header: no inline function, no template (see
// docs/add-an-instruction-set.md for the reason).
//
// Every kernel gives an output element the same bits whatever else is in the same call: which rows and which outputs
// are computed together never shows in the result, except that the number of vectors `n` of a Matmul may choose the
// order of its sums.
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/dtype.h"

namespace finermoe {

// Limits that kernels and backend agree on; the scratch follows from them.
enum : size_t {
  matmul_max_vectors = 264,    // vectors of one Matmul
  matmul_depth_block = 384,    // columns that are packed at a time
  tile_outputs = 32,           // widest packed tile
  attention_max_queries = 48,  // query vectors of one AttentionTask
  attention_key_block = 64,    // positions that are handled at a time
};

// out[i] = W x[i], or out[i] += W x[i], for n vectors.
struct Matmul {
  const float* const* x;  // [n] pointers to [columns]
  float* const* out;      // [n] pointers to [rows]
  size_t n;               // at most matmul_max_vectors
  const void* weight;     // [rows, columns], aligned to its element
  DType dtype;
  size_t rows, columns;
  bool accumulate;
  float* scratch;  // matmul_scratch_floats(n) of workspace.h, aligned to 64 bytes
};

// Softmax-weighted sums of values for n query vectors of the heads that share one key-value head.
struct AttentionTask {
  const float* const* q;  // [n] pointers to [head_size]
  float* const* out;      // [n] pointers to [head_size]
  const size_t* visible;  // [n] positions that each query sees, at least 1
  size_t n;               // at most attention_max_queries
  size_t head_size;
  const void *keys, *values;  // [positions, head_size]
  DType dtype;
  float scale;     // of the scores
  float* scratch;  // attention_scratch_floats(head_size), aligned to 64 bytes
};

struct Kernels {
  // out[i] = float(in[i])
  void (*widen)(const void* in, DType dtype, size_t n, float* out);
  // out[i] = in[i] rounded to nearest, ties to even
  void (*narrow)(const float* in, DType dtype, size_t n, void* out);
  // out = x / sqrt(mean(x^2) + eps) * weight; out may be x
  void (*rms_norm)(const float* x, const void* weight, DType dtype, float eps, size_t n, float* out);
  // gate[i] = scale * SiLU(gate[i]) * up[i]
  void (*silu_multiply)(float* gate, const float* up, float scale, size_t n);
  // Turns the pairs (x[i], x[half + i]) by the angles given.
  void (*rotate)(float* x, const float* cos, const float* sin, size_t half);
  void (*matmul)(const Matmul& task);
  void (*attention)(const AttentionTask& task);
};

namespace portable {
extern const Kernels kernels;
}
namespace avx2 {
extern const Kernels kernels;
}
namespace avx512 {
extern const Kernels kernels;
}

}  // namespace finermoe
