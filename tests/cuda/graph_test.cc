// Passes of few rows as graphs of the driver: how much is enqueued for a token, and that the bits are those that the
// same kernels give one by one.
#include <thread>

#include "../backend/support.h"
#include "../support/golden.h"
#include "emulated_driver.h"
#include "model/forward.h"

namespace emulated {
void PrintTo(const Calls& calls, std::ostream* out) {
  *out << calls.kernels << " kernels, " << calls.copies << " copies, " << calls.graphs << " graphs, "
       << calls.graphs_made << " made";
}
}  // namespace emulated

namespace finermoe {
namespace {

constexpr uint64_t n_positions = 1024;

// A model on the emulated device, with one step for all passes.
class LoadedModel {
 public:
  LoadedModel() {
    auto opened =
        Checkpoint::open(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2", {false, no_limit(), {}});
    EXPECT_TRUE(opened.ok()) << opened.status().message();
    model.checkpoint = *opened;
    model.config = model.checkpoint->config();
    model.placement.devices = {{emulated_cuda_device(), emulated_cuda()}};
    model.placement.device_of_expert.resize(model.config.n_moe_layers() * model.config.router.n_experts());
    auto weights = Weights::bind(*model.checkpoint, model.placement, no_limit(), {});
    EXPECT_TRUE(weights.ok());
    model.weights = std::move(*weights);
    auto made = Scratch::make(model, 32, n_positions, account);
    EXPECT_TRUE(made.ok());
    scratch = std::move(*made);
  }
  std::unique_ptr<KvCache> make_cache() const {
    auto made = model.placement.devices[0].backend->make_kv_cache(KvShape::of(model.config, n_positions, DType::f32),
                                                                  no_limit(), "a test");
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  }

  Model model;
  std::shared_ptr<MemoryAccount> account = no_limit();
  std::unique_ptr<Scratch> scratch;
};

struct Sequence {
  std::unique_ptr<KvCache> cache;
  uint32_t length = 0;
};

class CudaGraphs : public testing::Test {
 protected:
  void SetUp() override {
    if (!runs_fibers) GTEST_SKIP() << "a sanitizer makes these take minutes";
  }
  void TearDown() override {
    emulated::settings() = {};
    emulated::forget_faults();
    EXPECT_EQ(0u, emulated::n_graphs());
    EXPECT_EQ(0u, emulated::allocated());
  }

  // A pass over the next n tokens of some sequences; the logits of the last row of each.
  static Status run(LoadedModel& on, const std::vector<Sequence*>& sequences, uint32_t n, std::vector<float>& logits) {
    std::vector<int32_t> tokens;
    std::vector<uint32_t> positions, sessions;
    std::vector<KvCache*> caches;
    std::vector<size_t> rows;
    for (Sequence* sequence : sequences) {
      for (uint32_t i = 0; i < n; i++) {
        const uint32_t position = sequence->length + i;
        tokens.push_back(static_cast<int32_t>((7 * position + 3) % on.model.config.vocab_size));
        positions.push_back(position);
        sessions.push_back(static_cast<uint32_t>(caches.size()));
      }
      caches.push_back(sequence->cache.get());
      rows.push_back(tokens.size() - 1);
    }
    logits.assign(rows.size() * on.model.config.vocab_size, 0);
    const auto go_on = [] { return Status(); };
    FM_TRY(forward(on.model, {tokens, positions, sessions, caches}, Precision::exact,
                   {.rows = rows, .logits = logits.data()}, *on.scratch, {go_on}));
    for (Sequence* sequence : sequences) sequence->length += n;
    return {};
  }
  static std::vector<float> logits_after(LoadedModel& on, const std::vector<Sequence*>& sequences, uint32_t n = 1) {
    std::vector<float> logits;
    const Status status = run(on, sequences, n, logits);
    EXPECT_TRUE(status.ok()) << status.message();
    return logits;
  }
};

// What passes enqueue.
template <class Passes>
emulated::Calls calls_of(const Passes& passes) {
  const emulated::Calls before = emulated::calls();
  passes();
  const emulated::Calls after = emulated::calls();
  return {after.kernels - before.kernels, after.copies - before.copies, after.waits - before.waits,
          after.graphs - before.graphs, after.graphs_made - before.graphs_made};
}

// What passes give where the driver makes graphs, and where it makes none.
template <class Passes>
void expect_same_bits(const Passes& passes) {
  std::vector<std::vector<float>> found;
  EXPECT_LT(0u, calls_of([&] { found = passes(); }).graphs);
  emulated::settings().graph_answers = cuda::error_out_of_memory;
  EXPECT_EQ(0u, calls_of([&] { EXPECT_EQ(found, passes()); }).graphs);
}

// Positions lie in one, two and four splits.
TEST_F(CudaGraphs, ALongGenerationHasTheSameBits) {
  expect_same_bits([] {
    LoadedModel on;
    Sequence sequence{on.make_cache()};
    std::vector<std::vector<float>> found;
    for (const uint32_t prompt : {8, 230, 240, 250}) {
      for (uint32_t left = prompt; left > 0; left -= std::min(left, 32u)) {
        logits_after(on, {&sequence}, std::min(left, 32u));
      }
      for (int i = 0; i < 12; i++) found.push_back(logits_after(on, {&sequence}));
    }
    return found;
  });
}

TEST_F(CudaGraphs, BatchesThatChangeTheirSizeHaveTheSameBits) {
  expect_same_bits([] {
    LoadedModel on;
    std::vector<Sequence> sequences(4);
    for (Sequence& sequence : sequences) sequence.cache = on.make_cache();
    std::vector<std::vector<float>> found;
    for (const size_t n : {1, 3, 4, 1, 3, 3, 4, 2, 1, 4, 2, 3}) {
      std::vector<Sequence*> some;
      for (size_t i = 0; i < n; i++) some.push_back(&sequences[(found.size() + i) % 4]);
      found.push_back(logits_after(on, some, n == 2 ? 3 : 1));
    }
    return found;
  });
}

// The first pass is enqueued kernel by kernel, the second becomes a graph, and from then on a token is one launch,
// whose session it may be.
TEST_F(CudaGraphs, ATokenIsOneLaunch) {
  LoadedModel on;
  Sequence first{on.make_cache()}, second{on.make_cache()};
  const emulated::Calls at_first = calls_of([&] { logits_after(on, {&first}); });
  EXPECT_EQ(0u, at_first.graphs);
  EXPECT_LT(20u, at_first.kernels);
  EXPECT_EQ(1u, calls_of([&] { logits_after(on, {&first}); }).graphs_made);
  const emulated::Calls later = calls_of([&] {
    for (int i = 0; i < 10; i++) logits_after(on, {i % 3 == 0 ? &second : &first});
  });
  EXPECT_EQ(emulated::Calls{.graphs = 10}, later);
}

// With whatever options: they are in the pass's own memory. Logits stay on the device, but for a row that is left to
// the host.
TEST_F(CudaGraphs, AChosenTokenIsOneLaunchToo) {
  LoadedModel on;
  Sequence sequence{on.make_cache()};
  const uint64_t vocab = on.model.config.vocab_size;
  const auto go_on = [] { return Status(); };
  const size_t last = 0;
  KvCache* const of = sequence.cache.get();
  const uint32_t session = 0;
  std::vector<float> logits(vocab);
  uint64_t n_choosable = vocab;
  const auto choose = [&](const TokenChoice& choice) {
    const auto token = static_cast<int32_t>(sequence.length * 7 % vocab);
    const uint32_t position = sequence.length++;
    ChosenToken chosen;
    std::fill(logits.begin(), logits.end(), NAN);
    const Status status = forward(on.model, {{&token, 1}, {&position, 1}, {&session, 1}, {&of, 1}}, Precision::exact,
                                  {.rows = {&last, 1},
                                   .logits = logits.data(),
                                   .choices = {&choice, 1},
                                   .n_choosable = n_choosable,
                                   .chosen = &chosen},
                                  *on.scratch, {go_on});
    EXPECT_TRUE(status.ok()) << status.message();
    return chosen;
  };
  for (int i = 0; i < 2; i++) choose({});
  for (const TokenChoice& choice : {TokenChoice{},
                                    {.temperature = 0.7, .random = 0.3},
                                    {.temperature = 1, .top_k = 3, .top_p = 0.9, .random = 0.8}}) {
    EXPECT_EQ(emulated::Calls{.graphs = 1}, calls_of([&] { EXPECT_LE(0, choose(choice).id); }));
    EXPECT_TRUE(std::isnan(logits[0]));
  }
  n_choosable = 0;
  EXPECT_EQ(-1, choose({}).id);
  EXPECT_FALSE(std::isnan(logits[0]));
}

TEST_F(CudaGraphs, SessionsThatAlternateHaveTheirOwnBits) {
  LoadedModel on;
  Sequence alone{on.make_cache()};
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < 6; i++) expected.push_back(logits_after(on, {&alone}));
  Sequence first{on.make_cache()}, second{on.make_cache()};
  logits_after(on, {&second}, 5);
  for (int i = 0; i < 6; i++) {
    EXPECT_EQ(expected[size_t(i)], logits_after(on, {&first}));
    logits_after(on, {&second});
  }
}

// Each thread captures on a stream of its own, while the others do what a capture may not.
TEST_F(CudaGraphs, ThreadsHaveTheirOwn) {
  LoadedModel first;
  Sequence alone{first.make_cache()};
  std::vector<std::vector<float>> expected;
  for (int i = 0; i < 6; i++) expected.push_back(logits_after(first, {&alone}));
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; thread++) {
    threads.emplace_back([&] {
      for (int repeat = 0; repeat < 3; repeat++) {
        LoadedModel on;
        Sequence sequence{on.make_cache()};
        for (const auto& logits : expected) EXPECT_EQ(logits, logits_after(on, {&sequence}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// An expert that lies elsewhere: its table is written, and the graph is the same.
TEST_F(CudaGraphs, AnExpertThatMoves) {
  LoadedModel on;
  Sequence sequence{on.make_cache()};
  MoeWeights& layer = on.model.weights.layers[0].moe;
  const std::vector<FfnWeights> originals(layer.experts.begin(), layer.experts.end());
  std::vector<FfnWeights> experts = originals;
  layer.experts = experts;
  const auto again = [&] {
    sequence.length--;
    return logits_after(on, {&sequence});
  };
  for (int i = 0; i < 4; i++) logits_after(on, {&sequence});
  const std::vector<float> expected = again();
  const WeightView& down = experts[0].down;
  const auto zeros = on.model.placement.devices[0].backend->allocate(matrix_bytes(down.dtype, down.rows, down.columns),
                                                                     no_limit(), "a test");
  ASSERT_TRUE(zeros.ok());
  const emulated::Calls moved = calls_of([&] {
    for (FfnWeights& expert : experts) expert.down.data = (*zeros)->begin();
    EXPECT_NE(expected, again());
    std::copy(originals.begin(), originals.end(), experts.begin());
    EXPECT_EQ(expected, again());
  });
  EXPECT_EQ((emulated::Calls{.copies = 2, .graphs = 2}), moved);
}

TEST_F(CudaGraphs, ADeviceThatIsLostInAGraph) {
  LoadedModel on;
  Sequence sequence{on.make_cache()};
  for (int i = 0; i < 3; i++) logits_after(on, {&sequence});
  std::vector<float> logits;
  emulated::lose_device();
  const Status lost = run(on, {&sequence}, 1, logits);
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_LOST, lost.code());
  EXPECT_NE(std::string::npos, lost.message().find("CUDA: a pass")) << lost.message();
  EXPECT_EQ(logits, std::vector<float>(logits.size()));
  EXPECT_EQ(FINERMOE_ERROR_DEVICE_LOST, run(on, {&sequence}, 1, logits).code());
  emulated::forget_faults();
  const std::vector<float> found = logits_after(on, {&sequence});
  sequence.length--;
  EXPECT_EQ(found, logits_after(on, {&sequence}));
}

// Passes over what the device chooses are a launch each, and a kernel between them; the host waits at their end. Where
// attention is split further on the way, it is another graph.
TEST_F(CudaGraphs, PassesThatFollowEachOtherAreALaunchEach) {
  constexpr size_t n_passes = 12;
  LoadedModel on;
  Sequence sequence{on.make_cache()};
  for (uint32_t left = 250; left > 0; left -= std::min(left, 32u)) {
    logits_after(on, {&sequence}, std::min(left, 32u));
  }
  const uint64_t vocab = on.model.config.vocab_size;
  const auto go_on = [] { return Status(); };
  std::vector<TokenChoice> choices(n_passes);
  for (size_t i = 1; i < n_passes; i += 2) choices[i] = {.temperature = 1.5, .top_k = 8, .random = 0.08 * double(i)};
  const auto follow = [&](int32_t token, size_t begin, std::span<const TokenChoice> of) {
    const auto position = static_cast<uint32_t>(250 + begin);
    const uint32_t session = 0;
    const size_t row = 0;
    KvCache* const cache = sequence.cache.get();
    std::vector<float> logits(vocab);
    std::vector<ChosenToken> chosen(of.size());
    const Status status = forward(
        on.model, {{&token, 1}, {&position, 1}, {&session, 1}, {&cache, 1}}, Precision::exact,
        {.rows = {&row, 1}, .logits = logits.data(), .choices = of, .n_choosable = vocab, .chosen = chosen.data()},
        *on.scratch, {go_on});
    EXPECT_TRUE(status.ok()) << status.message();
    return chosen;
  };
  const std::vector<ChosenToken> first = follow(3, 0, choices);
  EXPECT_EQ(first, follow(3, 0, choices));
  std::vector<ChosenToken> third;
  const emulated::Calls calls = calls_of([&] { third = follow(3, 0, choices); });
  EXPECT_EQ(first, third);
  EXPECT_EQ((emulated::Calls{.kernels = n_passes - 1, .copies = 3, .graphs = n_passes}), calls);
  int32_t token = 3;
  for (size_t i = 0; i < n_passes; i++) {
    const ChosenToken alone = follow(token, i, {&choices[i], 1})[0];
    EXPECT_EQ(first[i], alone) << i;
    token = alone.id;
  }
}

// A row whose router logit is not finite is an error of every pass, graph or not.
TEST_F(CudaGraphs, RowsThatFailFailInAGraphToo) {
  LoadedModel on;
  Sequence sequence{on.make_cache()};
  const Config& config = on.model.config;
  std::vector<float> table(config.vocab_size * config.hidden_size, 0.01f);
  table[10 * config.hidden_size] = INFINITY;  // token 10 is that of position 1
  const Tensor tensor{.name = "table",
                      .dtype = DType::f32,
                      .rows = config.vocab_size,
                      .columns = config.hidden_size,
                      .data = reinterpret_cast<const std::byte*>(table.data())};
  const Tensor* const of = &tensor;
  auto bound = on.model.placement.devices[0].backend->bind({&of, 1}, no_limit(), {});
  ASSERT_TRUE(bound.ok());
  on.model.weights.embedding = bound->views[0];
  std::vector<float> logits;
  for (int i = 0; i < 4; i++) {
    sequence.length = 1;
    const Status status = run(on, {&sequence}, 1, logits);
    EXPECT_EQ(FINERMOE_ERROR_NOT_FINITE, status.code());
    sequence.length = 0;
    EXPECT_TRUE(run(on, {&sequence}, 1, logits).ok());
  }
}

// Few graphs are kept, and the memory on the account is that of the step from the start.
TEST_F(CudaGraphs, FewAreKept) {
  {
    LoadedModel on;
    const uint64_t used = on.account->used();
    EXPECT_EQ(used, Scratch::bytes(on.model, 32, n_positions, 1));
    std::vector<Sequence> sequences(14);
    for (Sequence& sequence : sequences) sequence.cache = on.make_cache();
    for (size_t n = 1; n <= sequences.size(); n++) {
      std::vector<Sequence*> some;
      for (size_t i = 0; i < n; i++) some.push_back(&sequences[i]);
      for (int i = 0; i < 3; i++) logits_after(on, some);
      EXPECT_EQ(std::min<size_t>(n, 8), emulated::n_graphs());
    }
    EXPECT_EQ(used, on.account->used());
  }
  EXPECT_EQ(0u, emulated::n_graphs());
}

// What does not fit into the staging memory, or is asked for in the middle of a pass, comes all the same.
TEST_F(CudaGraphs, DownloadsInTheMiddle) {
  auto backend = emulated_cuda();
  Config config = config_of(64, 96, {}, 40);
  config.vocab_size = 128;
  Operations on(*backend, config, 2);
  auto cache = backend->make_kv_cache(KvShape::of(config, 16, DType::f32), no_limit(), "a test");
  ASSERT_TRUE(cache.ok());
  KvCache* const of = cache->get();
  const std::vector<int32_t> tokens{3};
  const std::vector<uint32_t> positions{0}, sessions{0};
  const RandomMatrix table(DType::f32, 128, 64, 1);
  const WeightView view = on.bind(table);
  const DevicePtr<float> out = on->activations().x;
  for (int i = 0; i < 3; i++) {
    on.begin({tokens, positions, sessions, {&of, 1}}, Precision::exact);
    on->embed(view, out);
    std::vector<std::vector<float>> copies(6, std::vector<float>(64));
    for (std::vector<float>& copy : copies) {
      on->download(DevicePtr<const float>(out), std::span(copy));
      on->add(out, 64, out);  // doubles
    }
    ASSERT_TRUE(on->wait().ok());
    for (size_t k = 0; k < copies.size(); k++) {
      for (size_t c = 0; c < 64; c++) ASSERT_EQ(std::ldexp(table.values()[3 * 64 + c], int(k)), copies[k][c]);
    }
    on->end();
  }
}

}  // namespace
}  // namespace finermoe
