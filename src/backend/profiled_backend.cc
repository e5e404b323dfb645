#include "backend/profiled_backend.h"

#include <algorithm>
#include <vector>

#include "backend/kv_cache.h"
#include "base/stopwatch.h"

namespace finermoe {
namespace {

uint64_t bytes_of(const WeightView& weight) { return matrix_bytes(weight.dtype, weight.rows, weight.columns); }
uint64_t macs_of(const WeightView& weight) { return weight.rows * weight.columns; }
uint64_t bytes_of(const FfnWeights& ffn) { return bytes_of(ffn.gate) + bytes_of(ffn.up) + bytes_of(ffn.down); }
uint64_t macs_of(const FfnWeights& ffn) { return macs_of(ffn.gate) + macs_of(ffn.up) + macs_of(ffn.down); }

class ProfiledBackend final : public Backend {
 public:
  ProfiledBackend(std::shared_ptr<Backend> backend, std::shared_ptr<Profile> profile)
      : backend_(std::move(backend)), profile_(std::move(profile)) {}

  Result<std::unique_ptr<Workspace>> make_workspace(const Config& config, size_t n_rows, uint64_t n_positions,
                                                    std::shared_ptr<MemoryAccount> account) const override {
    return backend_->make_workspace(config, n_rows, n_positions, std::move(account));
  }

  Status embed(const WeightView& table, std::span<const int32_t> tokens, float* out) override {
    return timed(Profile::embed, bytes_of(table) / std::max<uint64_t>(1, table.rows) * tokens.size(), 0,
                 [&] { return backend_->embed(table, tokens, out); });
  }

  Status rms_norm(const float* x, const WeightView& weight, double eps, size_t n, float* out) override {
    return timed(Profile::rms_norm, 0, 0, [&] { return backend_->rms_norm(x, weight, eps, n, out); });
  }

  Status qkv(const float* x, const QkvWeights& weights, const AttentionShape& shape, const RaggedBatch& batch,
             uint64_t layer, float* q_out, Workspace& workspace) override {
    const uint64_t macs = macs_of(weights.q) + macs_of(weights.k) + macs_of(weights.v);
    return timed(Profile::qkv, bytes_of(weights.q) + bytes_of(weights.k) + bytes_of(weights.v), macs * batch.n(),
                 [&] { return backend_->qkv(x, weights, shape, batch, layer, q_out, workspace); });
  }

  Status attention(const float* q, const AttentionShape& shape, const RaggedBatch& batch, uint64_t layer, float* out,
                   Workspace& workspace) override {
    uint64_t bytes = 0, visible = 0;
    const uint64_t window = shape.window == 0 ? UINT32_MAX : std::min<uint64_t>(shape.window, UINT32_MAX);
    for (size_t row = 0, first = 0; row < batch.n(); row++) {
      if (row > 0 && batch.sessions[row] != batch.sessions[row - 1]) first = row;
      visible += std::min(batch.positions[row] + uint64_t{1}, window);
      const bool last_of_session = row + 1 == batch.n() || batch.sessions[row + 1] != batch.sessions[row];
      if (!last_of_session) continue;
      const KvLayout layout(batch.caches[batch.sessions[row]].dtype, shape.head_size);
      const uint64_t end = batch.positions[row] + uint64_t{1};
      bytes += 2 * shape.n_kv_heads * layout.head_bytes(std::min(end, end - batch.positions[first] - 1 + window));
    }
    return timed(Profile::attention, bytes, 2 * visible * shape.n_heads * shape.head_size,
                 [&] { return backend_->attention(q, shape, batch, layer, out, workspace); });
  }

  Status linear(const float* x, const WeightView& weight, size_t n, bool accumulate, float* out,
                Workspace& workspace) override {
    return timed(Profile::linear, bytes_of(weight), macs_of(weight) * n,
                 [&] { return backend_->linear(x, weight, n, accumulate, out, workspace); });
  }

  Status route(const float* x, const RouterWeights& weights, const RouterShape& shape, size_t n, const Route& route,
               Workspace& workspace) override {
    const uint64_t macs = macs_of(weights.gate) + macs_of(weights.concat_gate);
    return timed(Profile::route, bytes_of(weights.gate) + bytes_of(weights.concat_gate), macs * n,
                 [&] { return backend_->route(x, weights, shape, n, route, workspace); });
  }

  Status moe_ffn(const float* x, std::span<const FfnWeights> experts, const RouterShape& shape, const Route& route,
                 size_t n, bool accumulate, float* out, Workspace& workspace) override {
    uint64_t bytes = 0, macs = 0;
    std::vector<bool> seen(experts.size());
    for (size_t i = 0; i < n * shape.n_experts_per_token(); i++) {
      if (route.experts[i] < 0) continue;
      const auto expert = static_cast<size_t>(route.experts[i]);
      macs += macs_of(experts[expert]);
      if (!seen[expert]) bytes += bytes_of(experts[expert]);
      seen[expert] = true;
    }
    return timed(Profile::moe_ffn, bytes, macs,
                 [&] { return backend_->moe_ffn(x, experts, shape, route, n, accumulate, out, workspace); });
  }

  Status gated_ffn(const float* x, const FfnWeights& weights, const WeightView& scale, size_t n, float* out,
                   Workspace& workspace) override {
    return timed(Profile::gated_ffn, bytes_of(weights), macs_of(weights) * n,
                 [&] { return backend_->gated_ffn(x, weights, scale, n, out, workspace); });
  }

 private:
  template <class Work>
  Status timed(Profile::Operation operation, uint64_t bytes, uint64_t macs, Work&& work) {
    const Stopwatch watch;
    Status status = work();
    profile_->add(operation, watch.seconds(), bytes, macs);
    return status;
  }

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
