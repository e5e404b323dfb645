// The operations that a device implements: the whole of what the forward pass asks for, and nothing else.
//
// Shapes are written [rows, columns], row-major. `n` is the number of rows (tokens) of a ragged batch: each row belongs
// to some session, at some position. Activations are float32 on the device; weights are views of any type that
// WeightView can describe. An operation reads its inputs and writes its outputs, which never overlap unless it says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/allocation.h"
#include "base/dtype.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "format/config.h"

namespace finermoe {

// A matrix [rows, columns] (out, in), perhaps in blocks, or a vector [rows]; used where it lies.
struct WeightView {
  const std::byte* data = nullptr;
  DType dtype = DType::f32;
  uint64_t rows = 0, columns = 0;
  explicit operator bool() const { return data != nullptr; }
};

// One session's cache: for each layer the keys of each of the n_kv_heads, then their values (kv_cache.h). It begins as
// zeros.
struct KvCacheView {
  std::byte* data = nullptr;
  DType dtype = DType::f32;
  uint64_t capacity = 0;  // positions
};

// The rows of one step. Rows of one session are contiguous and their positions ascend by one.
struct RaggedBatch {
  std::span<const int32_t> tokens;      // [n]
  std::span<const uint32_t> positions;  // [n]
  std::span<const uint32_t> sessions;   // [n] index into caches
  std::span<const KvCacheView> caches;
  // [n, head_size / 2] each: cosine and sine of every row's rotary angles, scaled as the model's rope asks
  const float* rope_cos = nullptr;
  const float* rope_sin = nullptr;
  size_t n() const { return tokens.size(); }
};

struct AttentionShape {
  uint64_t hidden_size = 0, n_heads = 0, n_kv_heads = 0, head_size = 0;
  uint64_t window = 0;  // positions that a row sees, its own the last of them; 0: all
};

struct QkvWeights {
  WeightView q, k, v;                 // [n_heads * d, h], [n_kv_heads * d, h], the same
  WeightView q_bias, k_bias, v_bias;  // vectors, or empty
};

struct FfnWeights {
  WeightView gate, up;  // [width, h]
  WeightView down;      // [out, width]
};

struct RouterWeights {
  WeightView gate;         // [N, h]
  WeightView concat_gate;  // [G_O R_O, h] with a separate router, else empty
};

// What the router decided for n tokens; k = G_O T_I.
struct Route {
  float* logits = nullptr;     // [n, N]
  int32_t* experts = nullptr;  // [n, k] ascending in each row; moe_ffn leaves out those that are -1
  float* weights = nullptr;    // [n, k]
  int32_t* groups = nullptr;   // [n, G_O] winning group of each component, among all G_O R_O
};

// What a product does with its activations: keeps them in float32, or rounds them to what the weights' type multiplies
// fastest (BF16, or blocks of 8 bits). The router is always exact.
enum class Precision : int32_t { exact = FINERMOE_PRECISION_EXACT, fast = FINERMOE_PRECISION_FAST };

// Scratch of one step on one device. Grows to what the largest step needs and is then reused: no allocation per token.
class Workspace {
 public:
  virtual ~Workspace() = default;
  Precision precision = Precision::exact;  // of the step that uses it
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Scratch for steps of at most `n_rows` rows over a model of this shape, each session at most `n_positions` long.
  virtual Result<std::unique_ptr<Workspace>> make_workspace(const Config& config, size_t n_rows, uint64_t n_positions,
                                                            std::shared_ptr<MemoryAccount> account) const = 0;

  // out[i] = table[tokens[i]]                                             table [vocab, h], out [n, h]
  virtual Status embed(const WeightView& table, std::span<const int32_t> tokens, float* out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight                              x, out [n, h]; out may be x
  virtual Status rms_norm(const float* x, const WeightView& weight, double eps, size_t n, float* out) = 0;

  // q = rope(x Wq + bq) to q_out; k = rope(x Wk + bk) and v = x Wv + bv into the caches of layer `layer` at the rows'
  // positions.                                                            x [n, h], q_out [n, n_heads * d]
  virtual Status qkv(const float* x, const QkvWeights& weights, const AttentionShape& shape, const RaggedBatch& batch,
                     uint64_t layer, float* q_out, Workspace& workspace) = 0;

  // Causal attention of each row over its session's cache, its own position included, or over a window that ends there.
  //                                                                       q, out [n, n_heads * d]
  virtual Status attention(const float* q, const AttentionShape& shape, const RaggedBatch& batch, uint64_t layer,
                           float* out, Workspace& workspace) = 0;

  // out = x W^T, or out += x W^T if `accumulate`.                         x [n, columns], out [n, rows]
  virtual Status linear(const float* x, const WeightView& weight, size_t n, bool accumulate, float* out,
                        Workspace& workspace) = 0;

  // docs/finermoe-layer.md, steps 1 to 5, in float32. A logit that is not finite is FINERMOE_ERROR_NOT_FINITE; then
  // every row that has one has -1 for its first expert, and every other row its experts.
  virtual Status route(const float* x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                       const Route& route, Workspace& workspace) = 0;

  // out = concatenation over components of the sum over its experts of weight * expert(x) (step 6), or out += that if
  // `accumulate`. Only chosen experts are touched.
  //                                                                       x, out [n, h]
  virtual Status moe_ffn(const float* x, std::span<const FfnWeights> experts, const RouterShape& shape,
                         const Route& route, size_t n, bool accumulate, float* out, Workspace& workspace) = 0;

  // out += s * down(SiLU(gate x) * up x) with s = 1, or sigmoid(scale x) where `scale` [1, h] is given (step 8).
  //                                                                       x, out [n, h]
  virtual Status gated_ffn(const float* x, const FfnWeights& weights, const WeightView& scale, size_t n, float* out,
                           Workspace& workspace) = 0;
};

struct DeviceOptions {
  int32_t isa = FINERMOE_ISA_AUTO;
  std::shared_ptr<ThreadPool> pool;
};
// Opens the device: the one function through which model and runtime reach an implementation. Thread-safe, as every
// operation of the backend is: several steps may run at once, each with its own workspace.
Result<std::shared_ptr<Backend>> open_backend(const DeviceOptions& options);
// Bytes of the workspace that a device with `n_threads` makes: what a plan counts without opening it.
uint64_t workspace_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads);
// FINERMOE_ISA_AUTO resolved for this machine, or FINERMOE_ERROR_UNSUPPORTED for a set that it lacks.
Result<int32_t> resolve_isa(int32_t isa);
// The name of what computes with an instruction set that this machine has. Static.
const char* kernels_name(int32_t isa);

}  // namespace finermoe
