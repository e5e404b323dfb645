// The interface that a device implements: memory, weights, caches, and the operations of a pass.
//
// Shapes are written [rows, columns], row-major. `n` is the number of rows (tokens) of a ragged batch: each row belongs
// to some session, at some position. Activations are float32 on the device; weights are views of any type that
// WeightView can describe. An operation's inputs and outputs never overlap unless its comment says so.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "backend/device_ptr.h"
#include "backend/kv_cache.h"
#include "backend/token_choice.h"
#include "base/allocation.h"
#include "base/dtype.h"
#include "base/progress.h"
#include "base/status.h"
#include "format/checkpoint.h"
#include "format/config.h"

namespace finermoe {

// A matrix [rows, columns] (out, in), perhaps in blocks, or a vector [rows].
struct WeightView {
  DevicePtr<const std::byte> data;
  DType dtype = DType::f32;
  uint64_t rows = 0, columns = 0;
  explicit operator bool() const { return static_cast<bool>(data); }
};

// The rows of one pass. Rows of one session are contiguous and their positions ascend by one.
struct RaggedBatch {
  std::span<const int32_t> tokens;      // [n]
  std::span<const uint32_t> positions;  // [n]
  std::span<const uint32_t> sessions;   // [n] index into caches
  std::span<KvCache* const> caches;
  // Each row has the bits that it would have in a pass of its own, at some cost. Not of more rows than a backend has
  // as most_rows_as_alone(); where the batch is empty, of the operations that follow.
  bool as_alone = false;
  // More than 1 only of one row, and at most Backend::most_passes(): so many passes follow each other without the host,
  // each over the token that choose() has chosen in the one before, at the next position (Step::next_pass).
  size_t n_passes = 1;
  size_t n() const { return tokens.size(); }
  // TOKEN_OUT_OF_RANGE for an id outside the vocabulary.
  Status check_ids(uint64_t vocab_size) const;
};

struct AttentionShape {
  uint64_t hidden_size = 0, n_heads = 0, n_kv_heads = 0, head_size = 0;
  uint64_t window = 0;  // positions that a row attends to, the last being its own; 0: all
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
  DevicePtr<float> logits;     // [n, N]
  DevicePtr<int32_t> experts;  // [n, k] ascending in each row
  DevicePtr<float> weights;    // [n, k]
  DevicePtr<int32_t> groups;   // [n, G_O] winning group of each component, among all G_O R_O
};

// The same on the host.
struct HostRoute {
  float* logits = nullptr;
  int32_t* experts = nullptr;
  float* weights = nullptr;
  int32_t* groups = nullptr;
};

// What a matrix product does with its activations: keeps them in float32, or quantizes them to the type that multiplies
// fastest with the weights (BF16, or 8-bit blocks). The router is always exact.
enum class Precision : int32_t { exact = FINERMOE_PRECISION_EXACT, fast = FINERMOE_PRECISION_FAST };

// The activations of a pass of up to n_rows rows, in the memory of its step.
struct Activations {
  DevicePtr<float> x;         // [n_rows, h] the residual stream
  DevicePtr<float> normed;    // [n_rows, h] after a norm
  DevicePtr<float> q;         // [n_rows, n_heads * d]
  DevicePtr<float> attended;  // [n_rows, n_heads * d]
  DevicePtr<float> routed;    // [n_rows, h] concatenated experts, where a concat projection follows
  Route route;                // [n_rows, …]

  static uint64_t bytes(const Config& config, size_t n_rows);
  static Activations in(DevicePtr<std::byte> memory, const Config& config, size_t n_rows);
};

// Copies to a device's memory, those of a thread in order, beside the operations of passes. Thread-safe; the destructor
// waits for them.
class CopyQueue {
 public:
  virtual ~CopyQueue() = default;
  CopyQueue(const CopyQueue&) = delete;
  // May return before it is done, but has read `from` then.
  virtual Status copy(std::span<const std::byte> from, DevicePtr<std::byte> to) = 0;

 protected:
  CopyQueue() = default;
};

// Runs the operations of one pass, in order, and owns all they need: activations, scratch, and the device's stream. An
// operation may return before it is done, but the next one sees its results. Weights passed to it stay in place until
// the next wait() or the pass ends; other host arrays may change as soon as it returns. Used by one thread at a time.
// It is created once for the largest pass and then reused: no allocation per token.
class Step {
 public:
  virtual ~Step() = default;
  Step(const Step&) = delete;
  size_t n_rows() const { return n_rows_; }              // of the largest pass
  uint64_t n_positions() const { return n_positions_; }  // of the longest session
  const Activations& activations() const { return activations_; }

  // Begins a pass: copies ids and positions to the device and computes the rotary angles in float32, as the authors do.
  // TOKEN_OUT_OF_RANGE for an id outside the vocabulary.
  virtual Status begin(const RaggedBatch& batch, Precision precision) = 0;

  // out[i] = table[tokens[i]]                                             table [vocab, h], out [n, h]
  virtual void embed(const WeightView& table, DevicePtr<float> out) = 0;

  // out = x / sqrt(mean(x^2) + eps) * weight                              x, out [n, h]; out may be x
  virtual void rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n,
                        DevicePtr<float> out) = 0;

  // q = rope(x Wq + bq) to q_out; k = rope(x Wk + bk) and v = x Wv + bv into the caches of layer `layer` at the rows'
  // positions.                                                            x [n, h], q_out [n, n_heads * d]
  virtual void qkv(DevicePtr<const float> x, const QkvWeights& weights, const AttentionShape& shape, uint64_t layer,
                   DevicePtr<float> q_out) = 0;

  // Causal attention of each row over its session's cache, its own position included, or over a window that ends there.
  //                                                                       q, out [n, n_heads * d]
  virtual void attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer,
                         DevicePtr<float> out) = 0;

  // out = x W^T, or out += x W^T if `accumulate`.                         x [n, columns], out [n, rows]
  virtual void linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
                      DevicePtr<float> out) = 0;

  // docs/finermoe-layer.md, steps 1 to 5, in float32. For a row with a non-finite logit the experts are arbitrary;
  // row_error() has its error.
  virtual void route(DevicePtr<const float> x, const RouterWeights& weights, const RouterShape& shape, size_t n,
                     const Route& route) = 0;

  // For each component, the sum over its chosen experts of weight * expert(x); the components concatenated (step 6) are
  // out, or added to it if `accumulate`. Only experts in `subset`, ascending indices into `experts`, are used and
  // touched; of the others only shapes and types. Calls with a part of the experts each, in ascending order, have the
  // bits of one with all.
  //                                                                       x, out [n, h]
  virtual void moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
                       const RouterShape& shape, const Route& route, size_t n, bool accumulate,
                       DevicePtr<float> out) = 0;

  // out += s * down(SiLU(gate x) * up x) with s = 1, or sigmoid(scale x) where `scale` [1, h] is given (step 8).
  //                                                                       x, out [n, h]
  virtual void gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                         DevicePtr<float> out) = 0;

  // out += x                                                              x, out [n_values]
  virtual void add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) = 0;

  // x W^T in the host's memory, available after wait().                   x [n, columns], out [n, rows]
  virtual void logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) = 0;

  // For each row a token of the logits x W^T, among the ids below n_choosable; `out` is available after wait(). What is
  // chosen, and the numbers beside it, are to the bit what Sampler and LogProbabilities (sampling/sampler.h) have for
  // the same logits: what the device cannot decide so, it leaves to the host, row by row. False where it leaves all:
  // then nothing is done. Where passes follow each other, it is the same call in each.
  //                                                     x [n, columns], choices, out [n], or of one row [n_passes]
  virtual bool choose(DevicePtr<const float> x, const WeightView& head, size_t n, uint64_t n_choosable,
                      std::span<const TokenChoice> choices, ChosenToken* out) = 0;

  // Begins the next of the batch's passes, after choose(). Once a token is left to the host, or its pass has a row
  // error, which makes its id -1, later ones have no meaning. row_error() is that of the last pass.
  virtual void next_pass() {}

  // Copies to the device; and to the host, available after wait().
  virtual void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) = 0;
  virtual void download(DevicePtr<const std::byte> from, std::span<std::byte> to) = 0;
  template <class T>
  void upload(std::span<const T> from, DevicePtr<T> to) {
    upload(std::as_bytes(from), to.template as<std::byte>());
  }
  template <class T>
  void download(DevicePtr<const T> from, std::span<T> to) {
    download(from.template as<const std::byte>(), std::as_writable_bytes(to));
  }

  // What follows in this pass is done after the copies that the queue has been given so far. Only for a device that
  // makes such queues.
  virtual void wait_for(const CopyQueue&) {}

  // Waits until all operations so far are done. An error is one of the device itself: then all rows are lost.
  virtual Status wait() = 0;
  // After wait(), until the next pass begins: why a row could not be computed. NOT_FINITE names the row and the first
  // expert (or group) of the pass whose logit is NaN or infinite.
  virtual Status row_error(size_t row) const = 0;
  // Ends the pass at any point; when it returns, no operation is in progress.
  virtual void end() noexcept = 0;

 protected:
  Step(size_t n_rows, uint64_t n_positions) : n_rows_(n_rows), n_positions_(n_positions) {}
  Activations activations_;

 private:
  const size_t n_rows_;
  const uint64_t n_positions_;
};

// Memory of a device, freed on destruction; no operation may still be using it.
class DeviceMemory {
 public:
  virtual ~DeviceMemory() = default;
  DeviceMemory(const DeviceMemory&) = delete;
  DevicePtr<std::byte> begin() const { return begin_; }

 protected:
  explicit DeviceMemory(DevicePtr<std::byte> begin) : begin_(begin) {}

 private:
  const DevicePtr<std::byte> begin_;
};

// What a tensor takes of the memory of a device that copies weights: it begins at a multiple of 256 bytes.
constexpr uint64_t copied_bytes(uint64_t tensor_bytes) {
  constexpr uint64_t alignment = 256;
  return (tensor_bytes + alignment - 1) / alignment * alignment;
}

// Tensors, as views for a device's operations.
struct BoundWeights {
  std::vector<WeightView> views;         // in the order in which the tensors were given
  std::unique_ptr<DeviceMemory> memory;  // that holds them; null if they are used in the checkpoint
};

// An open device. Every function is thread-safe: several steps may run at once. All allocations are charged to
// `account`; errors are MEMORY_LIMIT, OUT_OF_MEMORY, or those of a device with memory of its own: DEVICE_MEMORY,
// DEVICE_LOST.
class Backend {
 public:
  virtual ~Backend() = default;

  // For passes of at most `n_rows` rows over a model of this shape, with sessions of at most `n_positions`.
  virtual Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                                  std::shared_ptr<MemoryAccount> account) const = 0;
  // `what` names it in errors. It is zero-initialized.
  virtual Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                         std::string_view what) const = 0;
  // Zeros, aligned to 64 bytes.
  virtual Result<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                         std::string_view what) const = 0;
  // Makes tensors of a checkpoint ready for use: in place, or as copies (phase "upload", in bytes).
  virtual Result<BoundWeights> bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                                    const Progress& progress) const = 0;
  // For a device whose memory is not the host's.
  virtual Result<std::unique_ptr<CopyQueue>> make_copy_queue(std::shared_ptr<MemoryAccount>) const {
    return Status(FINERMOE_ERROR_UNSUPPORTED, "the device copies nothing while it computes");
  }
  // The types of weights whose products quantize their activations at Precision::fast, in a pass of enough rows: bits
  // 1 << DType. With other types the precisions are the same to the bit.
  virtual uint32_t quantized_dtypes() const = 0;
  // Of how many rows a pass can be RaggedBatch::as_alone.
  virtual size_t most_rows_as_alone() const { return 1; }
  // How many passes can follow each other without the host: RaggedBatch::n_passes.
  virtual size_t most_passes() const { return 1; }
};

}  // namespace finermoe
