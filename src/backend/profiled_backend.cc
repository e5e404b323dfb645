#include "backend/profiled_backend.h"

#include <algorithm>
#include <vector>

#include "base/stopwatch.h"

namespace finermoe {
namespace {

uint64_t bytes_of(const WeightView& weight) { return matrix_bytes(weight.dtype, weight.rows, weight.columns); }
uint64_t macs_of(const WeightView& weight) { return weight.rows * weight.columns; }
uint64_t bytes_of(const FfnWeights& ffn) { return bytes_of(ffn.gate) + bytes_of(ffn.up) + bytes_of(ffn.down); }
uint64_t macs_of(const FfnWeights& ffn) { return macs_of(ffn.gate) + macs_of(ffn.up) + macs_of(ffn.down); }

// Waits for each operation, so that its time is right even on an asynchronous device.
class ProfiledStep final : public Step {
 public:
  ProfiledStep(std::unique_ptr<Step> step, std::shared_ptr<Profile> profile)
      : Step(step->n_rows(), step->n_positions()), step_(std::move(step)), profile_(std::move(profile)) {
    activations_ = step_->activations();
  }

  Status begin(const RaggedBatch& batch, Precision precision) override {
    runs_.clear();
    for (size_t row = 0; row < batch.n(); row++) {
      if (row == 0 || batch.sessions[row] != batch.sessions[row - 1]) {
        runs_.push_back({batch.caches[batch.sessions[row]]->shape().vector_bytes(), batch.positions[row], 0});
      }
      runs_.back().n++;
    }
    n_tokens_ = batch.n();
    return step_->begin(batch, precision);
  }

  void embed(const WeightView& table, DevicePtr<float> out) override {
    timed(Profile::embed, bytes_of(table) / std::max<uint64_t>(1, table.rows) * n_tokens_, 0,
          [&] { step_->embed(table, out); });
  }

  void rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n,
                DevicePtr<float> out) override {
    timed(Profile::rms_norm, 0, 0, [&] { step_->rms_norm(x, weight, eps, n, out); });
  }

  void qkv(DevicePtr<const float> x, const QkvWeights& weights, const AttentionShape& shape, uint64_t layer,
           DevicePtr<float> q_out) override {
    const uint64_t macs = macs_of(weights.q) + macs_of(weights.k) + macs_of(weights.v);
    timed(Profile::qkv, bytes_of(weights.q) + bytes_of(weights.k) + bytes_of(weights.v), macs * n_tokens_,
          [&] { step_->qkv(x, weights, shape, layer, q_out); });
  }

  void attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) override {
    uint64_t bytes = 0, visible = 0;
    const uint64_t window = shape.window == 0 ? UINT32_MAX : shape.window;
    for (const Run& run : runs_) {
      const uint64_t end = run.first + run.n;
      for (uint64_t position = run.first; position < end; position++) visible += std::min(position + 1, window);
      bytes += 2 * shape.n_kv_heads * run.vector_bytes * std::min(end, run.n - 1 + window);
    }
    timed(Profile::attention, bytes, 2 * visible * shape.n_heads * shape.head_size,
          [&] { step_->attention(q, shape, layer, out); });
  }

  void linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
              DevicePtr<float> out) override {
    timed(Profile::linear, bytes_of(weight), macs_of(weight) * n,
          [&] { step_->linear(x, weight, n, accumulate, out); });
  }

  void route(DevicePtr<const float> x, const RouterWeights& weights, const RouterShape& shape, size_t n,
             const Route& route) override {
    const uint64_t macs = macs_of(weights.gate) + macs_of(weights.concat_gate);
    timed(Profile::route, bytes_of(weights.gate) + bytes_of(weights.concat_gate), macs * n,
          [&] { step_->route(x, weights, shape, n, route); });
  }

  void moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
               const RouterShape& shape, const Route& route, size_t n, bool accumulate, DevicePtr<float> out) override {
    chosen_.resize(n * shape.n_experts_per_token());
    step_->download<int32_t>(route.experts, chosen_);
    if (!step_->wait().ok()) chosen_.clear();  // the pass gets the error from its own wait()
    uint64_t bytes = 0, macs = 0;
    std::vector<uint64_t> n_uses(experts.size());
    for (const int32_t expert : chosen_) n_uses[static_cast<size_t>(expert)]++;
    for (const uint32_t expert : subset) {
      macs += n_uses[expert] * macs_of(experts[expert]);
      if (n_uses[expert] != 0) bytes += bytes_of(experts[expert]);
    }
    timed(Profile::moe_ffn, bytes, macs, [&] { step_->moe_ffn(x, experts, subset, shape, route, n, accumulate, out); });
  }

  void gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                 DevicePtr<float> out) override {
    timed(Profile::gated_ffn, bytes_of(weights), macs_of(weights) * n,
          [&] { step_->gated_ffn(x, weights, scale, n, out); });
  }

  void logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) override {
    timed(Profile::linear, bytes_of(head), macs_of(head) * n, [&] { step_->logits(x, head, n, out); });
  }

  bool choose(DevicePtr<const float> x, const WeightView& head, size_t n, uint64_t n_choosable,
              std::span<const TokenChoice> choices, ChosenToken* out) override {
    const Stopwatch watch;
    if (!step_->choose(x, head, n, n_choosable, choices, out)) return false;
    record(Profile::linear, watch, bytes_of(head), macs_of(head) * n);
    return true;
  }

  void add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) override { step_->add(x, n_values, out); }
  void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) override { step_->upload(from, to); }
  void download(DevicePtr<const std::byte> from, std::span<std::byte> to) override { step_->download(from, to); }
  void wait_for(const CopyQueue& copies) override { step_->wait_for(copies); }
  Status wait() override { return step_->wait(); }
  Status row_error(size_t row) const override { return step_->row_error(row); }
  void end() noexcept override { step_->end(); }

 private:
  // Adjacent rows of one session.
  struct Run {
    uint64_t vector_bytes, first, n;  // of a vector of its cache; its first position; rows
  };

  template <class Work>
  void timed(Profile::Operation operation, uint64_t bytes, uint64_t macs, Work&& work) {
    const Stopwatch watch;
    work();
    record(operation, watch, bytes, macs);
  }
  void record(Profile::Operation operation, const Stopwatch& watch, uint64_t bytes, uint64_t macs) {
    const Status done = step_->wait();
    static_cast<void>(done);  // the pass gets the error from its own wait()
    profile_->add(operation, watch.seconds(), bytes, macs);
  }

  const std::unique_ptr<Step> step_;
  const std::shared_ptr<Profile> profile_;
  std::vector<Run> runs_;
  std::vector<int32_t> chosen_;
  size_t n_tokens_ = 0;
};

class ProfiledBackend final : public Backend {
 public:
  ProfiledBackend(std::shared_ptr<Backend> backend, std::shared_ptr<Profile> profile)
      : backend_(std::move(backend)), profile_(std::move(profile)) {}

  Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                          std::shared_ptr<MemoryAccount> account) const override {
    FM_ASSIGN(auto step, backend_->make_step(config, n_rows, n_positions, std::move(account)));
    return std::unique_ptr<Step>(std::make_unique<ProfiledStep>(std::move(step), profile_));
  }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    return backend_->make_kv_cache(shape, std::move(account), what);
  }
  Result<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    return backend_->allocate(bytes, std::move(account), what);
  }
  Result<BoundWeights> bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                            const Progress& progress) const override {
    return backend_->bind(tensors, std::move(account), progress);
  }
  Result<std::unique_ptr<CopyQueue>> make_copy_queue(std::shared_ptr<MemoryAccount> account) const override {
    return backend_->make_copy_queue(std::move(account));
  }
  uint32_t quantized_dtypes() const override { return backend_->quantized_dtypes(); }
  size_t most_rows_as_alone() const override { return backend_->most_rows_as_alone(); }

 private:
  const std::shared_ptr<Backend> backend_;
  const std::shared_ptr<Profile> profile_;
};

}  // namespace

void Profile::add(Operation operation, double seconds, uint64_t bytes, uint64_t macs) {
  const std::lock_guard lock(mutex_);
  OperationProfile& of = operations_[operation];
  of.n_calls++;
  of.seconds += seconds;
  of.bytes += bytes;
  of.macs += macs;
}

std::array<OperationProfile, Profile::n_operations> Profile::read() const {
  const std::lock_guard lock(mutex_);
  return operations_;
}

void Profile::reset() {
  const std::lock_guard lock(mutex_);
  for (OperationProfile& of : operations_) of = {of.name};
}

std::shared_ptr<Backend> profiled(std::shared_ptr<Backend> backend, std::shared_ptr<Profile> profile) {
  return std::make_shared<ProfiledBackend>(std::move(backend), std::move(profile));
}

}  // namespace finermoe
