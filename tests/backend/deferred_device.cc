#include "deferred_device.h"

#include <atomic>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <functional>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "cpu/cpu_device.h"
#include "sampling/sampler.h"

namespace finermoe {
namespace {

// What the host sees of an address: one that no process can have, so that following it faults.
constexpr uintptr_t disguise = uintptr_t{0xa5} << 48;

template <class T>
DevicePtr<T> hidden(DevicePtr<T> real) {
  return real ? DevicePtr<T>::at(real.number() + disguise) : real;
}
template <class T>
DevicePtr<T> real(DevicePtr<T> seen) {
  return seen ? DevicePtr<T>::at(seen.number() - disguise) : seen;
}
WeightView real(WeightView view) {
  view.data = real(view.data);
  return view;
}
// Its place may be another's to change.
WeightView shape_of(const WeightView& view) {
  return {.data = {}, .dtype = view.dtype, .rows = view.rows, .columns = view.columns};
}
FfnWeights shape_of(const FfnWeights& ffn) { return {shape_of(ffn.gate), shape_of(ffn.up), shape_of(ffn.down)}; }
FfnWeights real(const FfnWeights& ffn) { return {real(ffn.gate), real(ffn.up), real(ffn.down)}; }
Route real(const Route& route) {
  return {real(route.logits), real(route.experts), real(route.weights), real(route.groups)};
}
Route hidden(const Route& route) {
  return {hidden(route.logits), hidden(route.experts), hidden(route.weights), hidden(route.groups)};
}

ChosenToken chosen_on_host(std::span<const float> logits, uint64_t n_choosable, const TokenChoice& choice) {
  const LogProbabilities own(logits);
  const std::span<const float> choosable = logits.first(n_choosable);
  const auto largest = std::max_element(choosable.begin(), choosable.end());
  if (!own.are_finite() || *largest == -INFINITY) return {};
  auto id = static_cast<int32_t>(largest - choosable.begin());
  if (choice.temperature != 0) {
    Distribution distribution;
    distribution.assign(choosable, *largest, choice.temperature, choice.top_k);
    if (choice.top_p < 1) distribution.keep_top_p(choice.top_p);
    if (choice.min_p > 0) distribution.keep_min_p(choice.min_p);
    id = distribution.draw(choice.random);
  }
  return {id, logits[static_cast<size_t>(id)], own.largest(), own.sum()};
}

constexpr size_t most_passes_in_turn = 4;

Status misused(const char* what) { return Status(FINERMOE_ERROR_INTERNAL, format_text("the deferred device: ", what)); }

// Does what it is given in order, on its own thread, some time later.
class Stream {
 public:
  Stream() : thread_([this] { run(); }) {}
  ~Stream() {
    enqueue({});
    thread_.join();
  }
  void enqueue(std::function<void()> work) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::move(work));
    }
    changed_.notify_all();
  }
  Status wait() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return queue_.empty(); });
    return status_;
  }
  bool is_idle() const {
    const std::lock_guard lock(mutex_);
    return queue_.empty();
  }
  void forget_errors() {
    const std::lock_guard lock(mutex_);
    status_ = {};
  }

 private:
  void run() {
    std::mt19937 random(7);
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [&] { return !queue_.empty(); });
      const std::function<void()>& work = queue_.front();  // stays where it is while others are added
      if (!work) return;
      lock.unlock();
      if (random() % 8 == 0) std::this_thread::sleep_for(std::chrono::microseconds(random() % 60));
      Status status;
      try {
        work();
      } catch (const std::bad_alloc&) {
        status = Status(FINERMOE_ERROR_OUT_OF_MEMORY, "out of memory");
      }
      lock.lock();
      if (status_.ok()) status_ = std::move(status);
      queue_.pop_front();  // only now: who waits for an empty queue waits for this, too
      changed_.notify_all();
    }
  }

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> queue_;  // its front is being done; an empty function ends it
  Status status_;
  std::thread thread_;
};

class DeferredMemory final : public DeviceMemory {
 public:
  explicit DeferredMemory(std::unique_ptr<DeviceMemory> memory)
      : DeviceMemory(hidden(memory->begin())), memory_(std::move(memory)) {}

 private:
  const std::unique_ptr<DeviceMemory> memory_;
};

class DeferredKvCache final : public KvCache {
 public:
  explicit DeferredKvCache(std::unique_ptr<KvCache> cache) : KvCache(cache->shape()), cache_(std::move(cache)) {}

  KvCache* inner() const { return cache_.get(); }
  mutable std::atomic<int> n_passes{0};  // that have it

  uint64_t bytes() const override { return cache_->bytes(); }
  Status copy_prefix(const KvCache& from, size_t n) override {
    const auto& source = static_cast<const DeferredKvCache&>(from);
    FM_TRY(source.check_idle());
    FM_TRY(check_idle());
    return cache_->copy_prefix(*source.cache_, n);
  }
  Status move_down(size_t begin, size_t end, size_t n, const Rope& rope) override {
    FM_TRY(check_idle());
    return cache_->move_down(begin, end, n, rope);
  }
  Status read(uint64_t head, size_t begin, size_t n, std::span<std::byte> vectors) const override {
    FM_TRY(check_idle());
    return cache_->read(head, begin, n, vectors);
  }
  Status write(uint64_t head, size_t begin, size_t n, std::span<const std::byte> vectors) override {
    FM_TRY(check_idle());
    return cache_->write(head, begin, n, vectors);
  }

 private:
  Status check_idle() const { return n_passes == 0 ? Status() : misused("a cache is used while a pass has it"); }
  const std::unique_ptr<KvCache> cache_;
};

// On a thread of its own.
class DeferredCopyQueue final : public CopyQueue {
 public:
  ~DeferredCopyQueue() override {
    const Status last = stream_.wait();
    static_cast<void>(last);  // copies do not fail
  }
  Status copy(std::span<const std::byte> from, DevicePtr<std::byte> to) override {
    stream_.enqueue([to = real(to), bytes = std::vector<std::byte>(from.begin(), from.end())] {
      std::copy(bytes.begin(), bytes.end(), to.address());
    });
    return {};
  }
  // A point that the queue passes when it has done what it was given before.
  std::shared_future<void> point() const {
    auto passed = std::make_shared<std::promise<void>>();
    stream_.enqueue([passed] { passed->set_value(); });
    return passed->get_future().share();
  }

 private:
  mutable Stream stream_;
};

class DeferredStep final : public Step {
 public:
  explicit DeferredStep(std::unique_ptr<Step> step)
      : Step(step->n_rows(), step->n_positions()), step_(std::move(step)) {
    const Activations& a = step_->activations();
    activations_ = {hidden(a.x), hidden(a.normed), hidden(a.q), hidden(a.attended), hidden(a.routed), hidden(a.route)};
  }
  ~DeferredStep() override { end(); }

  Status begin(const RaggedBatch& batch, Precision precision) override {
    if (is_begun_) return misused("a pass begins before the one before it has ended");
    stream_.forget_errors();
    std::vector<KvCache*> inner;
    for (KvCache* cache : batch.caches) {
      auto* const of = static_cast<DeferredKvCache*>(cache);
      caches_.push_back(of);
      inner.push_back(of->inner());
      of->n_passes++;
    }
    is_begun_ = true;
    if (batch.n_passes > most_passes_in_turn) return misused("more passes than the device makes");
    if (batch.n_passes > 1 && batch.n() != 1) return misused("several passes of more than one row");
    pass_ = 0;
    if (batch.n_passes > 1) one_row_ = {batch.positions[0], inner[batch.sessions[0]], precision};
    const std::vector<int32_t> tokens(batch.tokens.begin(), batch.tokens.end());  // gone when this returns
    const std::vector<uint32_t> positions(batch.positions.begin(), batch.positions.end());
    const std::vector<uint32_t> sessions(batch.sessions.begin(), batch.sessions.end());
    return step_->begin({tokens, positions, sessions, inner, batch.as_alone}, precision);
  }
  void next_pass() override {
    ChosenToken* const last = chosen_ + pass_++;
    later([last, row = one_row_, position = one_row_.position + static_cast<uint32_t>(pass_), this] {
      if (!step_->row_error(0).ok()) last->id = -1;
      const int32_t token = std::max(last->id, 0);
      const uint32_t session = 0;
      const Status begun = step_->begin({{&token, 1}, {&position, 1}, {&session, 1}, {&row.cache, 1}}, row.precision);
      static_cast<void>(begun);  // the id is one of the vocabulary
    });
  }

  void embed(const WeightView& table, DevicePtr<float> out) override {
    later([=, this] { step_->embed(real(table), real(out)); });
  }
  void rms_norm(DevicePtr<const float> x, const WeightView& weight, double eps, size_t n,
                DevicePtr<float> out) override {
    later([=, this] { step_->rms_norm(real(x), real(weight), eps, n, real(out)); });
  }
  void qkv(DevicePtr<const float> x, const QkvWeights& w, const AttentionShape& shape, uint64_t layer,
           DevicePtr<float> q_out) override {
    const QkvWeights weights{real(w.q), real(w.k), real(w.v), real(w.q_bias), real(w.k_bias), real(w.v_bias)};
    later([=, this] { step_->qkv(real(x), weights, shape, layer, real(q_out)); });
  }
  void attention(DevicePtr<const float> q, const AttentionShape& shape, uint64_t layer, DevicePtr<float> out) override {
    later([=, this] { step_->attention(real(q), shape, layer, real(out)); });
  }
  void linear(DevicePtr<const float> x, const WeightView& weight, size_t n, bool accumulate,
              DevicePtr<float> out) override {
    later([=, this] { step_->linear(real(x), real(weight), n, accumulate, real(out)); });
  }
  void route(DevicePtr<const float> x, const RouterWeights& w, const RouterShape& shape, size_t n,
             const Route& route) override {
    const RouterWeights weights{real(w.gate), real(w.concat_gate)};
    later([=, this] { step_->route(real(x), weights, shape, n, real(route)); });
  }
  void moe_ffn(DevicePtr<const float> x, std::span<const FfnWeights> experts, std::span<const uint32_t> subset,
               const RouterShape& shape, const Route& route, size_t n, bool accumulate, DevicePtr<float> out) override {
    std::vector<FfnWeights> own;
    for (const FfnWeights& expert : experts) own.push_back(shape_of(expert));
    for (const uint32_t expert : subset) own[expert] = real(experts[expert]);
    const std::vector<uint32_t> some(subset.begin(), subset.end());
    later([=, this] { step_->moe_ffn(real(x), own, some, shape, real(route), n, accumulate, real(out)); });
  }
  void gated_ffn(DevicePtr<const float> x, const FfnWeights& weights, const WeightView& scale, size_t n,
                 DevicePtr<float> out) override {
    later([=, this] { step_->gated_ffn(real(x), real(weights), real(scale), n, real(out)); });
  }
  void add(DevicePtr<const float> x, size_t n_values, DevicePtr<float> out) override {
    later([=, this] { step_->add(real(x), n_values, real(out)); });
  }
  void logits(DevicePtr<const float> x, const WeightView& head, size_t n, float* out) override {
    std::fill_n(out, n * head.rows, NAN);  // whoever reads it too early sees that
    later([=, this] { step_->logits(real(x), real(head), n, out); });
  }
  // Every fifth row of a device is left to the host.
  bool choose(DevicePtr<const float> x, const WeightView& head, size_t n, uint64_t n_choosable,
              std::span<const TokenChoice> choices, ChosenToken* out) override {
    chosen_ = out;
    const auto of_pass = choices.subspan(pass_, n);
    ChosenToken* const chosen = out + pass_;
    std::fill_n(chosen, n, ChosenToken{.id = INT32_MAX});
    later([=, this, own = std::vector<TokenChoice>(of_pass.begin(), of_pass.end())] {
      std::vector<float> logits(n * head.rows);
      step_->logits(real(x), real(head), n, logits.data());
      for (size_t row = 0; row < n; row++) {
        const std::span<const float> of_row = std::span(logits).subspan(row * head.rows, head.rows);
        chosen[row] = n_chosen_++ % 5 == 4 ? ChosenToken{} : chosen_on_host(of_row, n_choosable, own[row]);
      }
    });
    return true;
  }
  void upload(std::span<const std::byte> from, DevicePtr<std::byte> to) override {
    later([this, to, bytes = std::vector<std::byte>(from.begin(), from.end())] { step_->upload(bytes, real(to)); });
  }
  void download(DevicePtr<const std::byte> from, std::span<std::byte> to) override {
    std::fill(to.begin(), to.end(), std::byte{0xff});
    later([=, this] { step_->download(real(from), to); });
  }
  void wait_for(const CopyQueue& copies) override {
    later([point = static_cast<const DeferredCopyQueue&>(copies).point()] { point.wait(); });
  }
  Status wait() override { return stream_.wait(); }
  Status row_error(size_t row) const override {
    return stream_.is_idle() ? step_->row_error(row) : misused("the rows' errors are not known yet");
  }
  void end() noexcept override {
    const Status last = stream_.wait();
    static_cast<void>(last);  // a pass that is given up
    for (const DeferredKvCache* cache : caches_) cache->n_passes--;
    caches_.clear();
    step_->end();
    is_begun_ = false;
  }

 private:
  template <class Work>
  void later(Work&& work) {
    stream_.enqueue(std::forward<Work>(work));
  }

  struct Row {
    uint32_t position = 0;
    KvCache* cache = nullptr;
    Precision precision = Precision::exact;
  };

  const std::unique_ptr<Step> step_;
  std::vector<const DeferredKvCache*> caches_;  // of the pass
  bool is_begun_ = false;
  Row one_row_;                    // of the first of several passes
  size_t pass_ = 0;                // of these, the one that is being given
  ChosenToken* chosen_ = nullptr;  // [n_passes]
  size_t n_chosen_ = 0;
  Stream stream_;
};

class DeferredBackend final : public Backend {
 public:
  explicit DeferredBackend(std::shared_ptr<Backend> backend) : backend_(std::move(backend)) {}

  Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n_positions,
                                          std::shared_ptr<MemoryAccount> account) const override {
    FM_ASSIGN(auto step, backend_->make_step(config, n_rows, n_positions, std::move(account)));
    return std::unique_ptr<Step>(std::make_unique<DeferredStep>(std::move(step)));
  }
  Result<std::unique_ptr<KvCache>> make_kv_cache(const KvShape& shape, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    FM_ASSIGN(auto cache, backend_->make_kv_cache(shape, std::move(account), what));
    return std::unique_ptr<KvCache>(std::make_unique<DeferredKvCache>(std::move(cache)));
  }
  Result<std::unique_ptr<DeviceMemory>> allocate(uint64_t bytes, std::shared_ptr<MemoryAccount> account,
                                                 std::string_view what) const override {
    FM_ASSIGN(auto memory, backend_->allocate(bytes, std::move(account), what));
    return std::unique_ptr<DeviceMemory>(std::make_unique<DeferredMemory>(std::move(memory)));
  }
  Result<BoundWeights> bind(std::span<const Tensor* const> tensors, std::shared_ptr<MemoryAccount> account,
                            const Progress& progress) const override {
    uint64_t total = 0, done = 0;
    for (const Tensor* tensor : tensors) total += copied_bytes(tensor->bytes());
    BoundWeights bound;
    FM_ASSIGN(bound.memory, allocate(total, std::move(account), "the weights on the device"));
    for (const Tensor* tensor : tensors) {
      FM_TRY(progress.report("upload", done, total));
      const DevicePtr<std::byte> to = bound.memory->begin() + done;
      std::memcpy(real(to).address(), tensor->data, tensor->bytes());
      bound.views.push_back({to, tensor->dtype, tensor->rows, tensor->columns});
      done += copied_bytes(tensor->bytes());
    }
    FM_TRY(progress.report("upload", total, total));
    return bound;
  }

  Result<std::unique_ptr<CopyQueue>> make_copy_queue(std::shared_ptr<MemoryAccount>) const override {
    return std::unique_ptr<CopyQueue>(std::make_unique<DeferredCopyQueue>());
  }
  uint32_t quantized_dtypes() const override { return backend_->quantized_dtypes(); }
  size_t most_rows_as_alone() const override { return backend_->most_rows_as_alone(); }
  size_t most_passes() const override { return most_passes_in_turn; }

 private:
  const std::shared_ptr<Backend> backend_;
};

class DeferredDevice final : public Device {
 public:
  const char* name() const override { return "deferred"; }
  bool copies_weights() const override { return true; }
  DeviceInfo info() const override {
    DeviceInfo info = cpu_->info();
    info.kind = FINERMOE_DEVICE_OTHER;
    return info;
  }
  Result<std::shared_ptr<Backend>> open(const DeviceOptions& options) const override {
    FM_ASSIGN(auto backend, cpu_->open(options));
    return deferred(std::move(backend));
  }
  uint64_t step_bytes(const Config& config, size_t n_rows, uint64_t n_positions, size_t n_threads) const override {
    return cpu_->step_bytes(config, n_rows, n_positions, n_threads);
  }
  uint64_t kv_cache_bytes(const KvShape& shape) const override { return cpu_->kv_cache_bytes(shape); }

 private:
  const std::shared_ptr<const Device> cpu_ = cpu_device();
};

}  // namespace

std::shared_ptr<const Device> deferred_device() { return std::make_shared<DeferredDevice>(); }
std::shared_ptr<Backend> deferred(std::shared_ptr<Backend> backend) {
  return std::make_shared<DeferredBackend>(std::move(backend));
}

}  // namespace finermoe
