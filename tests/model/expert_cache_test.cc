// Routed experts that are fetched into a device's memory: the bits of all experts on the device, which are kept, and
// what happens when slots or copies lack.
#include "placement/expert_cache.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <future>
#include <map>
#include <thread>

#include "../backend/support.h"
#include "../support/golden.h"
#include "model/forward.h"

namespace finermoe {
namespace {

constexpr uint64_t n_positions = 64;
constexpr size_t most_rows = 32;
const std::string shapes = golden::source_root() + "/tests/data/shapes/";

struct Where {
  std::string name;
  std::shared_ptr<const Device> (*device)();
  bool runs = true;
};

// A model with room for so many bytes of experts on a device, or all of them.
struct Loaded {
  Loaded(const std::string& path, const Where& where, uint64_t cache_bytes) {
    auto opened = Checkpoint::open(path, {false, no_limit(), {}});
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    model.checkpoint = *opened;
    model.config = model.checkpoint->config();
    const auto device = where.device();
    auto backend = device->open({FINERMOE_ISA_PORTABLE, std::make_shared<ThreadPool>(2)});
    EXPECT_TRUE(backend.ok());
    model.placement = Placement::on({device, *backend});
    if (cache_bytes != 0) {
      DeviceShare share;
      share.n_layers = model.config.n_layers;
      model.placement = Placement::shared({device, *backend}, share, {device, *backend}, model.config);
      model.placement.fetch_experts(model.config);
      EXPECT_EQ(model.placement.devices.size(), 1u);
    }
    auto weights = Weights::bind(*model.checkpoint, model.placement, no_limit(), {});
    EXPECT_TRUE(weights.ok());
    model.weights = std::move(*weights);
    if (cache_bytes == 0) return;
    auto cache =
        ExpertCache::make(model.checkpoint, model.placement, cache_bytes, model.weights.experts, nullptr, no_limit());
    EXPECT_TRUE(cache.ok()) << cache.status().message();
    model.expert_cache = std::move(*cache);
  }

  Model model;
};

// What slots of this many experts take.
uint64_t bytes_of(uint64_t n_experts, const Model& model) {
  const FfnWeights& ffn = model.weights.experts[0];
  uint64_t bytes = 0;
  for (const WeightView& view : {ffn.gate, ffn.up, ffn.down}) {
    bytes += copied_bytes(matrix_bytes(view.dtype, view.rows, view.columns));
  }
  return n_experts * bytes;
}

// A session of a model, with a scratch of its own.
class Sequence {
 public:
  explicit Sequence(Loaded& on, Precision precision = Precision::exact) : model_(on.model), precision_(precision) {
    const KvShape shape = KvShape::of(model_.config, n_positions, DType::f32);
    auto cache = model_.placement.devices[0].backend->make_kv_cache(shape, no_limit(), "a test");
    auto scratch = Scratch::make(model_, most_rows, n_positions, no_limit());
    EXPECT_TRUE(cache.ok() && scratch.ok());
    cache_ = std::move(*cache);
    scratch_ = std::move(*scratch);
  }

  // Computes n tokens; the logits of all. The chosen experts of each MoE layer are in `chosen`.
  std::vector<float> run(size_t n) {
    const Config& config = model_.config;
    std::vector<int32_t> tokens;
    std::vector<uint32_t> positions;
    std::vector<size_t> rows;
    for (size_t i = 0; i < n; i++) {
      rows.push_back(i);
      positions.push_back(length_++);
      tokens.push_back(static_cast<int32_t>((37 * positions.back() + 11) % config.vocab_size));
    }
    const std::vector<uint32_t> sessions(n);
    const size_t n_choices = n * config.router.n_experts_per_token();
    std::vector<float> router_logits(n * config.router.n_experts()), weights(n_choices);
    std::vector<int32_t> groups(n * config.router.granularity_output);
    chosen.assign(config.n_moe_layers(), std::vector<int32_t>(n_choices));
    std::vector<HostRoute> routes;
    for (std::vector<int32_t>& of_layer : chosen) {
      routes.push_back({router_logits.data(), of_layer.data(), weights.data(), groups.data()});
    }
    std::vector<float> logits(n * config.vocab_size);
    KvCache* const of_session = cache_.get();
    const auto go_on = [] { return Status(); };
    const Status status = forward(model_, {tokens, positions, sessions, {&of_session, 1}}, precision_,
                                  {.rows = rows, .logits = logits.data()}, *scratch_, {go_on, routes});
    EXPECT_TRUE(status.ok()) << status.message();
    return logits;
  }
  // A prompt, and tokens one by one.
  std::vector<std::vector<float>> run_all() {
    std::vector<std::vector<float>> all;
    for (const size_t n : {24, 1, 1, 9, 1, 1}) all.push_back(run(n));
    return all;
  }

  std::vector<std::vector<int32_t>> chosen;

 private:
  const Model& model_;
  const Precision precision_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<Scratch> scratch_;
  uint32_t length_ = 0;
};

class ExpertCacheTest : public testing::TestWithParam<Where> {
 protected:
  void SetUp() override {
    if (!GetParam().runs) GTEST_SKIP() << "a sanitizer makes these take minutes";
  }
};
INSTANTIATE_TEST_SUITE_P(On, ExpertCacheTest,
                         testing::Values(Where{"deferred", deferred_device},
                                         Where{"cuda_emulated", emulated_cuda_device, runs_fibers}),
                         [](const auto& of) { return of.param.name; });

TEST_P(ExpertCacheTest, BitsAreThoseOfAllExpertsOnTheDevice) {
  for (const char* shape : {"finermoe-32-1-2-2", "finermoe-concat-proj", "finermoe-no-shared", "finermoe-ti2-ri2",
                            "finermoe-norm-topk-f16", "finermoe-dense-first", "qwen2-moe"}) {
    SCOPED_TRACE(shape);
    Loaded whole(shapes + shape, GetParam(), 0);
    const uint64_t k = whole.model.config.router.n_experts_per_token();
    for (const Precision precision : {Precision::exact, Precision::fast}) {
      const auto expected = Sequence(whole, precision).run_all();
      for (const uint64_t n_slots : {k, k + 3, uint64_t{1000}}) {
        SCOPED_TRACE(n_slots);
        Loaded fetching(shapes + shape, GetParam(), bytes_of(n_slots, whole.model));
        const size_t n_experts = whole.model.weights.experts.size();
        EXPECT_EQ(fetching.model.expert_cache->n_slots(), std::min<size_t>(n_slots, n_experts));
        EXPECT_EQ(Sequence(fetching, precision).run_all(), expected);
        EXPECT_EQ(Sequence(fetching, precision).run_all(), expected);  // with what is there from before
      }
    }
  }
}

// The least recently used expert makes room, and what every pass finds is counted.
TEST_P(ExpertCacheTest, TheLeastRecentlyUsedMakesRoom) {
  const std::string path = shapes + "finermoe-32-1-2-2";
  Loaded whole(path, GetParam(), 0);
  const size_t n_slots = 10, n_experts = whole.model.config.router.n_experts();
  Loaded fetching(path, GetParam(), bytes_of(n_slots, whole.model));
  Sequence sequence(fetching);
  std::vector<size_t> recent;  // the most recently used last
  uint64_t hits = 0, misses = 0;
  for (int token = 0; token < 40; token++) {
    sequence.run(1);
    for (size_t layer = 0; layer < sequence.chosen.size(); layer++) {
      std::vector<size_t> missing;
      for (const int32_t chosen : sequence.chosen[layer]) {  // those that are there make no room for the others
        const size_t expert = layer * n_experts + static_cast<size_t>(chosen);
        const auto found = std::find(recent.begin(), recent.end(), expert);
        if (found == recent.end()) {
          missing.push_back(expert);
        } else {
          std::rotate(found, found + 1, recent.end());
          hits++;
        }
      }
      for (const size_t expert : missing) {
        if (recent.size() == n_slots) recent.erase(recent.begin());
        recent.push_back(expert);
        misses++;
      }
    }
    const ExpertCache::Counts counts = fetching.model.expert_cache->counts();
    ASSERT_EQ(counts.hits, hits);
    ASSERT_EQ(counts.misses, misses);
  }
  EXPECT_GT(hits, 0u);
  EXPECT_GT(misses, n_slots);
}

TEST_P(ExpertCacheTest, SessionsAtOnceShareTheSlots) {
  const std::string path = shapes + "finermoe-32-1-2-2";
  Loaded whole(path, GetParam(), 0);
  const auto expected = Sequence(whole).run_all();
  for (const uint64_t n_slots : {2, 5, 40}) {
    Loaded fetching(path, GetParam(), bytes_of(n_slots, whole.model));
    std::vector<Sequence> sequences;
    for (int i = 0; i < 4; i++) sequences.emplace_back(fetching);
    std::vector<std::vector<std::vector<float>>> found(sequences.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < sequences.size(); i++) threads.emplace_back([&, i] { found[i] = sequences[i].run_all(); });
    for (std::thread& thread : threads) thread.join();
    for (const auto& of_thread : found) EXPECT_EQ(of_thread, expected) << n_slots << " slots";
  }
}

TEST_P(ExpertCacheTest, ItTakesWhatItMayAndNoMore) {
  Loaded whole(shapes + "finermoe-32-1-2-2", GetParam(), 0);
  Loaded fetching(shapes + "finermoe-32-1-2-2", GetParam(), bytes_of(2, whole.model));
  const auto make = [&](uint64_t bytes, const std::shared_ptr<MemoryAccount>& account) {
    std::vector<FfnWeights> views = fetching.model.weights.experts;
    return ExpertCache::make(fetching.model.checkpoint, fetching.model.placement, bytes, views, nullptr, account)
        .status();
  };
  const uint64_t least = bytes_of(2, whole.model);
  const Status too_small = make(least - 1, no_limit());
  EXPECT_EQ(too_small.code(), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(too_small.expected(), format_text("at least ", least, " bytes"));
  EXPECT_EQ(too_small.found(), format_text(least - 1, " bytes"));
  const auto no_bound = no_limit();
  EXPECT_EQ(make(least, no_bound).code(), FINERMOE_OK);
  const uint64_t with_copies = no_bound->peak();  // and what the device needs to copy
  EXPECT_GE(with_copies, least);
  EXPECT_LE(with_copies, least + (4 << 20));
  EXPECT_EQ(make(least, std::make_shared<MemoryAccount>(with_copies - 1)).code(), FINERMOE_ERROR_MEMORY_LIMIT);
  const auto account = std::make_shared<MemoryAccount>(with_copies);
  EXPECT_EQ(make(least + 100, account).code(), FINERMOE_OK);
  EXPECT_EQ(account->used(), 0u);
}

// A pass that finds all slots in use waits until another has released some.
TEST_P(ExpertCacheTest, APassWaitsForASlot) {
  Loaded whole(shapes + "finermoe-32-1-2-2", GetParam(), 0);
  Loaded fetching(shapes + "finermoe-32-1-2-2", GetParam(), bytes_of(3, whole.model));
  ExpertCache& cache = *fetching.model.expert_cache;
  ExpertCache::InUse first(cache);
  const uint32_t all[] = {4, 5, 6, 7};
  ASSERT_EQ(*cache.fetch(0, all, first), 3u);  // as many as there is room for
  ExpertCache::InUse second(cache);
  ASSERT_EQ(*cache.fetch(0, std::span(all).subspan(2), second), 1u);  // the one that is there
  second.release();
  std::atomic<bool> is_done{false};
  std::thread other([&] {
    EXPECT_EQ(*cache.fetch(0, std::span(all).subspan(3), second), 1u);
    is_done = true;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(30));
  EXPECT_FALSE(is_done);
  first.release();
  other.join();
  EXPECT_EQ(cache.counts().hits, 1u);
  EXPECT_EQ(cache.counts().misses, 4u);
}

// A device whose copies are what a test makes of them.
using Copy = std::function<Status(std::span<const std::byte>, DevicePtr<std::byte>)>;
class TestCopies final : public CopyQueue {
 public:
  explicit TestCopies(Copy copy) : copy_(std::move(copy)) {}
  Status copy(std::span<const std::byte> from, DevicePtr<std::byte> to) override { return copy_(from, to); }

 private:
  const Copy copy_;
};
class TestBackend final : public Backend {
 public:
  TestBackend(std::shared_ptr<const Backend> backend, Copy copy)
      : backend_(std::move(backend)), copy_(std::move(copy)) {}
  Result<std::unique_ptr<Step>> make_step(const Config& config, size_t n_rows, uint64_t n,
                                          std::shared_ptr<MemoryAccount> account) const override {
    return backend_->make_step(config, n_rows, n, std::move(account));
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
  uint32_t quantized_dtypes() const override { return 0; }
  Result<std::unique_ptr<CopyQueue>> make_copy_queue(std::shared_ptr<MemoryAccount>) const override {
    return std::unique_ptr<CopyQueue>(std::make_unique<TestCopies>(copy_));
  }

 private:
  const std::shared_ptr<const Backend> backend_;
  const Copy copy_;
};

// A cache with such copies.
class WithCopies {
 public:
  WithCopies(const Where& where, uint64_t n_slots, Copy copy)
      : fetching_(path(), where, bytes_of(2, Loaded(path(), where, 0).model)) {
    Model& model = fetching_.model;
    model.placement.devices[0].backend =
        std::make_shared<TestBackend>(model.placement.devices[0].backend, std::move(copy));
    auto made = ExpertCache::make(model.checkpoint, model.placement, bytes_of(n_slots, model), model.weights.experts,
                                  nullptr, no_limit());
    EXPECT_TRUE(made.ok());
    cache_ = std::move(*made);
  }
  ExpertCache& operator*() { return *cache_; }
  ExpertCache* operator->() { return cache_.get(); }
  const FfnWeights& weights(uint32_t expert) const { return fetching_.model.weights.experts[expert]; }
  bool has(uint32_t expert) const { return static_cast<bool>(weights(expert).gate); }

 private:
  static std::string path() { return shapes + "finermoe-32-1-2-2"; }
  Loaded fetching_;
  std::unique_ptr<ExpertCache> cache_;
};

TEST_P(ExpertCacheTest, AnExpertThatWasNotCopiedIsNotThere) {
  int n_failures = 1;
  WithCopies cache(GetParam(), 4, [&](std::span<const std::byte>, DevicePtr<std::byte>) {
    return n_failures-- > 0 ? Status(FINERMOE_ERROR_DEVICE_LOST, "a test") : Status();
  });
  ExpertCache::InUse in_use(*cache);
  const uint32_t chosen[] = {1, 2};
  EXPECT_EQ(cache->fetch(0, chosen, in_use).status().code(), FINERMOE_ERROR_DEVICE_LOST);
  EXPECT_FALSE(cache.has(1) || cache.has(2));
  in_use.release();
  ASSERT_EQ(*cache->fetch(0, chosen, in_use), 2u);
  EXPECT_TRUE(cache.has(1) && cache.has(2));
  EXPECT_EQ(cache->counts().hits, 0u);
  EXPECT_EQ(cache->counts().misses, 2u);
}

// Copies that wait, once they are closed, until a test lets them go on, and says what becomes of the first.
class Gate {
 public:
  Copy copies() {
    return [this](std::span<const std::byte>, DevicePtr<std::byte>) {
      std::unique_lock lock(mutex_);
      n_begun_++;
      changed_.notify_all();
      changed_.wait(lock, [&] { return !is_closed_; });
      return std::exchange(first_, {});
    };
  }
  void close() {
    const std::lock_guard lock(mutex_);
    is_closed_ = true;
    n_begun_ = 0;
  }
  void open(Status first = {}) {
    const std::lock_guard lock(mutex_);
    is_closed_ = false;
    first_ = std::move(first);
    changed_.notify_all();
  }
  void wait_for_a_copy() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return n_begun_ > 0; });
  }
  int n_begun() {
    const std::lock_guard lock(mutex_);
    return n_begun_;
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool is_closed_ = false;
  int n_begun_ = 0;
  Status first_;
};

// A pass on a thread of its own, that fetches these experts.
class Fetching {
 public:
  Fetching(WithCopies& cache, std::vector<uint32_t> experts)
      : in_use_(*cache), fetched_(std::async(std::launch::async, [this, &cache, experts = std::move(experts)] {
          return cache->fetch(0, experts, in_use_);
        })) {}
  bool is_done_within(std::chrono::milliseconds time) const {
    return fetched_.wait_for(time) == std::future_status::ready;
  }
  Result<size_t> result() { return fetched_.get(); }
  void release() { in_use_.release(); }

 private:
  ExpertCache::InUse in_use_;
  std::future<Result<size_t>> fetched_;
};
constexpr std::chrono::milliseconds a_moment{30}, any_time{60'000};

TEST_P(ExpertCacheTest, APassThatHasItsExpertsDoesNotWaitForCopies) {
  Gate gate;
  WithCopies cache(GetParam(), 4, gate.copies());
  ASSERT_EQ(*Fetching(cache, {1, 2}).result(), 2u);
  gate.close();
  Fetching copies(cache, {2, 3});
  gate.wait_for_a_copy();
  Fetching has_all(cache, {1, 2}), lacks_one(cache, {1, 3}), copies_another(cache, {4});
  EXPECT_TRUE(has_all.is_done_within(any_time));
  EXPECT_FALSE(lacks_one.is_done_within(a_moment));
  EXPECT_FALSE(copies.is_done_within(std::chrono::milliseconds(0)));
  gate.open();
  EXPECT_EQ(*has_all.result(), 2u);
  EXPECT_EQ(*copies.result(), 2u);
  EXPECT_EQ(*lacks_one.result(), 2u);
  EXPECT_EQ(*copies_another.result(), 1u);
  EXPECT_EQ(gate.n_begun(), 2 * 3);  // one copy of either expert, in three parts
  EXPECT_EQ(cache->counts().misses, 4u);
  EXPECT_EQ(cache->counts().hits, 5u);
}

// Also where there is no other slot than the one that the expert was to come to.
TEST_P(ExpertCacheTest, WhatOnePassCouldNotCopyAnotherTries) {
  for (const uint64_t n_slots : {2, 4}) {
    SCOPED_TRACE(n_slots);
    Gate gate;
    WithCopies cache(GetParam(), n_slots, gate.copies());
    ASSERT_EQ(*Fetching(cache, {1}).result(), 1u);
    gate.close();
    Fetching fails(cache, {3});
    gate.wait_for_a_copy();
    Fetching goes_on(cache, {1, 3});
    EXPECT_FALSE(goes_on.is_done_within(a_moment));
    gate.open(Status(FINERMOE_ERROR_DEVICE_LOST, "a test"));
    EXPECT_EQ(fails.result().status().code(), FINERMOE_ERROR_DEVICE_LOST);
    fails.release();
    const size_t n = *goes_on.result();
    // With two slots it may have been as fast as to find one in use.
    EXPECT_TRUE(n == 2 || (n == 1 && n_slots == 2));
    EXPECT_TRUE(n == 1 || cache.has(3));
    goes_on.release();
    ASSERT_EQ(*Fetching(cache, {1, 3}).result(), 2u);
    EXPECT_TRUE(cache.has(1) && cache.has(3));
  }
}

// Passes of four threads over few slots, with copies that fail now and then: whatever a pass has fetched is in its
// slot.
TEST_P(ExpertCacheTest, FailuresOfManyPassesAtOnce) {
  constexpr uint32_t n_experts = 12;
  std::mutex mutex;
  std::mt19937 random(5);
  bool fails = false;
  std::map<uintptr_t, const std::byte*> in_slots;  // what was copied last to an address
  WithCopies cache(GetParam(), 5, [&](std::span<const std::byte> from, DevicePtr<std::byte> to) {
    std::this_thread::yield();
    const std::lock_guard lock(mutex);
    if (fails && random() % 40 == 0) return Status(FINERMOE_ERROR_DEVICE_LOST, "a test");
    in_slots[to.number()] = from.data();
    return Status();
  });
  const auto in_slot_of = [&](uint32_t expert) {
    const std::lock_guard lock(mutex);
    const auto found = in_slots.find(cache.weights(expert).down.data.number());
    return found == in_slots.end() ? nullptr : found->second;
  };
  std::vector<const std::byte*> expected;
  for (uint32_t expert = 0; expert < n_experts; expert++) {
    ExpertCache::InUse in_use(*cache);
    ASSERT_EQ(*cache->fetch(0, {&expert, 1}, in_use), 1u);
    expected.push_back(in_slot_of(expert));
  }
  fails = true;
  std::atomic<int> n_failed{0};
  const auto fetch_some = [&](uint32_t seed) {
    std::mt19937 own(seed);
    ExpertCache::InUse in_use(*cache);
    for (int i = 0; i < 300; i++) {
      std::vector<uint32_t> chosen;
      for (uint32_t expert = 0; expert < n_experts; expert++) {
        if (own() % 4 == 0 || (expert + 1 == n_experts && chosen.empty())) chosen.push_back(expert);
      }
      for (std::span<const uint32_t> rest = chosen; !rest.empty();) {
        const Result<size_t> n = cache->fetch(0, rest, in_use);
        n_failed += !n.ok();
        if (n.ok()) {
          for (const uint32_t expert : rest.first(*n)) EXPECT_EQ(in_slot_of(expert), expected[expert]);
          rest = rest.subspan(*n);
        }
        in_use.release();
      }
    }
  };
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 4; i++) threads.emplace_back(fetch_some, i);
  for (std::thread& thread : threads) thread.join();
  EXPECT_GT(n_failed, 0);
}

}  // namespace
}  // namespace finermoe
