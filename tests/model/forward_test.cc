// The forward pass itself, beside the authors' logits: on each device, and with layers, or a layer's experts, on
// several.
#include "model/forward.h"

#include <numeric>

#include "../backend/support.h"
#include "../support/golden.h"
#include "model/split_kv_cache.h"

namespace finermoe {
namespace {

struct Where {
  std::string name;
  std::shared_ptr<const Device> (*main)();
  std::shared_ptr<const Device> (*other)();
  // Of an expert of all layers: whether it is on the other device.
  bool (*is_elsewhere)(size_t expert);
  // Of a layer likewise. Where it is, its experts are on the device above, or on this one if `is_elsewhere` says so.
  bool (*is_layer_elsewhere)(size_t layer) = nullptr;
};
std::string name_of_where(const testing::TestParamInfo<Where>& info) { return info.param.name; }
const auto go_on = [] { return Status(); };
constexpr auto nowhere = [](size_t) { return false; };
constexpr auto everywhere = [](size_t) { return true; };
constexpr auto every_third = [](size_t expert) { return expert % 3 == 0; };
constexpr auto even = [](size_t layer) { return layer % 2 == 0; };
constexpr auto odd = [](size_t layer) { return layer % 2 == 1; };

OpenDevice open(const std::shared_ptr<const Device>& device) {
  auto backend = device->open({FINERMOE_ISA_PORTABLE, std::make_shared<ThreadPool>(2)});
  EXPECT_TRUE(backend.ok());
  return {device, *backend};
}

class Forward : public testing::TestWithParam<Where> {
 protected:
  // A model, placed as the parameter says, and a session of 64 positions.
  void load(const std::string& path) {
    auto opened = Checkpoint::open(path, {false, no_limit(), {}});
    ASSERT_TRUE(opened.ok()) << opened.status().message();
    model.checkpoint = *opened;
    model.config = model.checkpoint->config();
    model.placement = {{open(GetParam().main()), open(GetParam().other())}, {}, {}};
    const size_t n_experts =
        model.config.n_moe_layers() * (model.config.is_moe() ? model.config.router.n_experts() : 0);
    for (size_t expert = 0; expert < n_experts; expert++) {
      model.placement.device_of_expert.push_back(GetParam().is_elsewhere(expert));
    }
    for (size_t layer = 0; GetParam().is_layer_elsewhere && layer < model.config.n_layers; layer++) {
      model.placement.device_of_layer.push_back(GetParam().is_layer_elsewhere(layer));
    }
    auto weights = Weights::bind(*model.checkpoint, model.placement, no_limit(), {});
    ASSERT_TRUE(weights.ok());
    model.weights = std::move(*weights);
    const KvShape shape = KvShape::of(model.config, 64, DType::f32);
    auto made = model.placement.divides_layers()
                    ? SplitKvCache::make(model.placement, shape, no_limit(), "a test")
                    : model.placement.devices[0].backend->make_kv_cache(shape, no_limit(), "a test");
    ASSERT_TRUE(made.ok());
    cache = std::move(*made);
    auto scratch_made = Scratch::make(model, 64, 64, no_limit());
    ASSERT_TRUE(scratch_made.ok());
    scratch = std::move(*scratch_made);
  }

  Status run(const std::vector<int32_t>& ids, const Readout& readout, const ForwardHooks& hooks) {
    std::vector<uint32_t> positions(ids.size()), sessions(ids.size());
    for (size_t i = 0; i < ids.size(); i++) positions[i] = uint32_t(i);
    KvCache* const of_session = cache.get();
    return forward(model, {ids, positions, sessions, {&of_session, 1}}, precision, readout, *scratch, hooks);
  }

  // Other embeddings, of which that of token 7 alone is not finite.
  void make_token_7_fail() {
    table.assign(model.config.vocab_size * model.config.hidden_size, 0.01f);
    for (size_t i = 0; i < table.size(); i++) table[i] *= float(i % 13);
    table[7 * model.config.hidden_size] = INFINITY;
    const Tensor tensor{.name = "table",
                        .dtype = DType::f32,
                        .rows = model.config.vocab_size,
                        .columns = model.config.hidden_size,
                        .data = reinterpret_cast<const std::byte*>(table.data())};
    const Tensor* const of = &tensor;
    auto bound = model.placement.devices[model.placement.of_embedding()].backend->bind({&of, 1}, no_limit(), {});
    ASSERT_TRUE(bound.ok());
    bound_table = std::move(*bound);
    model.weights.embedding = bound_table.views[0];
  }

  Precision precision = Precision::exact;
  Model model;
  std::vector<float> table;
  BoundWeights bound_table;
  std::unique_ptr<KvCache> cache;
  std::unique_ptr<Scratch> scratch;
};
std::vector<Where> placements() {
  const auto cpu = [] { return cpu_device(); };
  std::vector<Where> all = {{"cpu", cpu, deferred_device, nowhere},
                            {"deferred", deferred_device, cpu, nowhere},
                            {"experts_on_cpu", deferred_device, cpu, everywhere},
                            {"experts_on_deferred", cpu, deferred_device, everywhere},
                            {"experts_on_both", cpu, deferred_device, every_third},
                            {"even_layers_on_cpu", deferred_device, cpu, nowhere, even},
                            {"odd_layers_on_deferred", cpu, deferred_device, every_third, odd},
                            {"cuda_emulated", emulated_cuda_device, cpu, nowhere},
                            {"cuda_emulated_last_layer", emulated_cuda_device, cpu, everywhere, even},
                            {"cuda_emulated_and_cpu", emulated_cuda_device, cpu, every_third}};
  if (named_device() != nullptr) {
    all.push_back({"named", named_device, cpu, nowhere});
    all.push_back({"named_and_cpu", named_device, cpu, every_third});
  }
  return all;
}
INSTANTIATE_TEST_SUITE_P(Placements, Forward, testing::ValuesIn(placements()), name_of_where);

// On devices that compute several passes without the host.
class FollowingPasses : public Forward {
 protected:
  // What the device chooses behind a token at a position, in as many passes as there are choices.
  Status choose(int32_t token, size_t at, std::span<const TokenChoice> choices, std::vector<ChosenToken>& chosen) {
    std::vector<float> logits(model.config.vocab_size);
    const auto position = static_cast<uint32_t>(at);
    const uint32_t session = 0;
    const size_t row = 0;
    KvCache* const of_session = cache.get();
    chosen.assign(choices.size(), {.id = 7});
    return forward(model, {{&token, 1}, {&position, 1}, {&session, 1}, {&of_session, 1}}, precision,
                   {.rows = {&row, 1},
                    .logits = logits.data(),
                    .choices = choices,
                    .n_choosable = model.config.vocab_size,
                    .chosen = chosen.data()},
                   *scratch, {go_on});
  }
};
std::vector<Where> devices_alone() {
  std::vector<Where> all = placements();
  std::erase_if(all, [](const Where& where) {
    return where.name != "deferred" && where.name != "cuda_emulated" && where.name != "named";
  });
  return all;
}
INSTANTIATE_TEST_SUITE_P(Devices, FollowingPasses, testing::ValuesIn(devices_alone()), name_of_where);

// Of each MoE layer, more than there is room for in one step of scratch.
struct Routes {
  Routes(const Config& config, size_t n) {
    const RouterShape& shape = config.router;
    const size_t n_layers = config.n_moe_layers(), k = shape.n_experts_per_token();
    logits.assign(n_layers, std::vector<float>(n * shape.n_experts()));
    weights.assign(n_layers, std::vector<float>(n * k));
    experts.assign(n_layers, std::vector<int32_t>(n * k));
    groups.assign(n_layers, std::vector<int32_t>(n * shape.granularity_output));
    for (size_t layer = 0; layer < n_layers; layer++) {
      of_layers.push_back({logits[layer].data(), experts[layer].data(), weights[layer].data(), groups[layer].data()});
    }
  }
  // Whether a row has the experts of an expected output.
  bool are_of(const nlohmann::json& expected, size_t row) const {
    for (size_t layer = 0; layer < experts.size(); layer++) {
      const std::vector<int32_t> want = expected["layers"][layer]["experts"][row];
      if (!std::equal(want.begin(), want.end(), &experts[layer][row * want.size()])) return false;
    }
    return true;
  }

  std::vector<HostRoute> of_layers;
  std::vector<std::vector<float>> logits, weights;
  std::vector<std::vector<int32_t>> experts, groups;
};

TEST_P(Forward, LogitsAndRoutesAreTheAuthors) {
  for (const std::string& path : golden::shape_models()) {
    SCOPED_TRACE(path);
    load(path);
    if (model.checkpoint->stores_tied_head()) continue;  // settled by who loads it
    const nlohmann::json expected = golden::expected(path)["prompts"][0];
    const std::vector<int32_t> ids = expected["ids"];
    std::vector<size_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), size_t{0});
    std::vector<float> logits(ids.size() * model.config.vocab_size);
    const Routes routes(model.config, ids.size());
    const Status status = run(ids, {.rows = rows, .logits = logits.data()}, {go_on, routes.of_layers});
    ASSERT_TRUE(status.ok()) << status.message();
    expect_close(logits.data(), golden::npz_array(path + "/expected_logits.npz", "logits_0"), 2e-4);
    for (size_t t = 0; t < ids.size(); t++) EXPECT_TRUE(routes.are_of(expected, t)) << t;
  }
}

// Where two experts are nearly as good, rounded activations may choose the other one, which changes that row and all
// that see it. So a prompt's logits are compared up to there.
TEST_P(Forward, FastLogitsAreNearTheAuthors) {
  precision = Precision::fast;
  size_t n_rows = 0, n_compared = 0;
  for (const std::string& path : golden::shape_models()) {
    SCOPED_TRACE(path);
    load(path);
    if (model.checkpoint->stores_tied_head()) continue;
    const nlohmann::json expected = golden::expected(path)["prompts"][2];
    const std::vector<int32_t> ids = expected["ids"];
    ASSERT_LT(32u, ids.size());  // enough for a GPU's tensor cores
    std::vector<size_t> rows(ids.size());
    std::iota(rows.begin(), rows.end(), size_t{0});
    const size_t vocab = model.config.vocab_size;
    std::vector<float> logits(ids.size() * vocab);
    const Routes routes(model.config, ids.size());
    const Status status = run(ids, {.rows = rows, .logits = logits.data()}, {go_on, routes.of_layers});
    ASSERT_TRUE(status.ok()) << status.message();
    const auto of_authors = golden::npz_array(path + "/expected_logits.npz", "logits_2");
    n_rows += ids.size();
    for (size_t row = 0; row < ids.size() && routes.are_of(expected, row); row++, n_compared++) {
      const std::vector<float> want(&of_authors[row * vocab], &of_authors[row * vocab] + vocab);
      expect_close(&logits[row * vocab], want, 3e-2);
    }
  }
  EXPECT_GT(n_compared, n_rows / 2);
}

TEST_P(Forward, RowsAreReadOutOneByOneOrInBlocks) {
  load(golden::source_root() + "/tests/data/shapes/finermoe-concat-proj");
  const std::vector<int32_t> ids{3, 1, 4, 1, 5, 9, 2, 6};
  const uint64_t vocab = model.config.vocab_size, h = model.config.hidden_size;
  const std::vector<size_t> all{0, 1, 2, 3, 4, 5, 6, 7}, some{1, 2, 5, 7};
  std::vector<float> whole(8 * vocab), hidden(8 * h);
  ASSERT_TRUE(run(ids, {.rows = all, .hidden = hidden.data(), .logits = whole.data()}, {go_on}).ok());
  std::vector<float> of_some(4 * vocab), hidden_of_some(4 * h);
  ASSERT_TRUE(run(ids, {.rows = some, .hidden = hidden_of_some.data(), .logits = of_some.data()}, {go_on}).ok());
  std::vector<float> block(3 * vocab), in_blocks;
  const auto take = [&](size_t begin, size_t end, const float* logits) {
    EXPECT_EQ(begin * vocab, in_blocks.size());
    in_blocks.insert(in_blocks.end(), logits, logits + (end - begin) * vocab);
  };
  const Readout::LogitsBlock told = take;
  ASSERT_TRUE(
      run(ids, {.rows = some, .logits = block.data(), .logits_block = &told, .logits_block_rows = 3}, {go_on}).ok());
  for (size_t i = 0; i < some.size(); i++) {
    const std::vector<float> row(&whole[some[i] * vocab], &whole[some[i] * vocab] + vocab);
    expect_close(&of_some[i * vocab], row, 1e-5);
    expect_close(&in_blocks[i * vocab], row, 1e-5);
    EXPECT_TRUE(std::equal(&hidden[some[i] * h], &hidden[some[i] * h] + h, &hidden_of_some[i * h]));
  }
}

TEST_P(Forward, RowsAsAloneHaveTheBitsOfPassesOfTheirOwn) {
  for (const std::string& path : golden::shape_models()) {
    SCOPED_TRACE(path);
    load(path);
    std::vector<int32_t> ids = golden::expected(path)["prompts"][0]["ids"];
    ids.resize(std::min<size_t>(ids.size(), 12));
    const uint64_t vocab = model.config.vocab_size;
    const auto logits_of = [&](size_t begin, size_t end, bool as_alone) {
      std::vector<size_t> rows(end - begin);
      std::iota(rows.begin(), rows.end(), size_t{0});
      std::vector<uint32_t> positions(rows.size()), sessions(rows.size());
      std::iota(positions.begin(), positions.end(), static_cast<uint32_t>(begin));
      std::vector<float> logits(rows.size() * vocab);
      KvCache* const of_session = cache.get();
      const RaggedBatch batch{
          std::span(ids).subspan(begin, rows.size()), positions, sessions, {&of_session, 1}, as_alone};
      EXPECT_TRUE(forward(model, batch, precision, {.rows = rows, .logits = logits.data()}, *scratch, {go_on}).ok());
      return logits;
    };
    for (const Precision of : {Precision::exact, Precision::fast}) {
      precision = of;
      const std::vector<float> together = logits_of(0, ids.size(), true);
      std::vector<float> alone;
      for (size_t i = 0; i < ids.size(); i++) {
        const std::vector<float> row = logits_of(i, i + 1, false);
        alone.insert(alone.end(), row.begin(), row.end());
      }
      EXPECT_EQ(std::memcmp(together.data(), alone.data(), together.size() * sizeof(float)), 0);
    }
  }
}

TEST_P(FollowingPasses, HaveTheBitsOfPassesOfTheirOwn) {
  for (const std::string& path : golden::shape_models()) {
    SCOPED_TRACE(path);
    load(path);
    const size_t n_passes = std::min<size_t>(6, model.placement.devices[0].backend->most_passes());
    std::vector<TokenChoice> choices(n_passes);
    for (size_t i = 1; i < n_passes; i++) choices[i] = {.temperature = 2, .top_k = 9, .random = 0.13 * double(i)};
    const auto follow = [&](int32_t token, size_t begin, std::span<const TokenChoice> of) {
      std::vector<ChosenToken> chosen;
      const Status status = choose(token, begin, of, chosen);
      EXPECT_TRUE(status.ok()) << status.message();
      return chosen;
    };
    const auto cached = [&] {
      std::vector<float> vectors(n_passes * model.config.head_size);
      EXPECT_TRUE(cache->read(1, 0, n_passes, std::as_writable_bytes(std::span(vectors))).ok());
      return vectors;
    };
    // A device may leave any of them to the host: what it has chosen before is what counts.
    size_t n_followed = 0;
    for (int32_t first = 1; first < 4; first++) {
      const std::vector<ChosenToken> together = follow(first, 0, choices);
      const std::vector<float> cached_together = cached();
      int32_t token = first;
      size_t n = 0;
      for (; n < n_passes && together[n].id >= 0; n++) {
        ChosenToken alone;
        for (int tries = 0; alone.id < 0 && tries < 2; tries++) alone = follow(token, n, {&choices[n], 1})[0];
        EXPECT_TRUE(alone == together[n]) << n;
        token = alone.id;
      }
      n_followed += n;
      const std::vector<float> cached_alone = cached();
      EXPECT_EQ(std::memcmp(cached_together.data(), cached_alone.data(), n * model.config.head_size * 4), 0);
    }
    EXPECT_GT(n_followed, n_passes);
  }
}

TEST_P(Forward, StopsBetweenLayersAndCanRunAgain) {
  load(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  const std::vector<int32_t> ids{3, 1, 4, 1, 5};
  const std::vector<size_t> rows{4};
  std::vector<float> logits(model.config.vocab_size), again(logits.size());
  ASSERT_TRUE(run(ids, {.rows = rows, .logits = logits.data()}, {go_on}).ok());
  for (size_t stop_at = 0; stop_at < model.config.n_layers; stop_at++) {
    size_t asked = 0;
    const auto stop = [&] { return asked++ == stop_at ? Status(FINERMOE_ERROR_CANCELLED, "stop") : Status(); };
    std::fill(again.begin(), again.end(), 0.0f);
    EXPECT_EQ(run(ids, {.rows = rows, .logits = again.data()}, {stop}).code(), FINERMOE_ERROR_CANCELLED);
    EXPECT_EQ(again, std::vector<float>(again.size()));
  }
  ASSERT_TRUE(run(ids, {.rows = rows, .logits = again.data()}, {go_on}).ok());
  EXPECT_EQ(logits, again);
}

TEST_P(Forward, ARowThatFailsLeavesTheOthers) {
  load(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  make_token_7_fail();
  const std::vector<size_t> rows{1};
  std::vector<float> logits(model.config.vocab_size);
  const Status status = run({1, 2, 7}, {.rows = rows, .logits = logits.data()}, {go_on});
  EXPECT_EQ(status.code(), FINERMOE_ERROR_NOT_FINITE);
  EXPECT_NE(status.message().find("row 2"), std::string::npos) << status.message();
  EXPECT_TRUE(scratch->row_error(0).ok());
  EXPECT_TRUE(scratch->row_error(1).ok());
  EXPECT_FALSE(scratch->row_error(2).ok());
  EXPECT_TRUE(run({1, 2, 3}, {.rows = rows, .logits = logits.data()}, {go_on}).ok());
}

// Token 7, which is chosen, cannot be computed: what follows is left to the host, which asks again and is told why.
TEST_P(FollowingPasses, LeaveATokenThatFailsToTheHost) {
  load(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  const size_t n_passes = std::min<size_t>(4, model.placement.devices[0].backend->most_passes());
  make_token_7_fail();
  std::vector<ChosenToken> chosen;
  TokenChoice to_seven{.temperature = 1e6};  // with the random number that makes 7 the token behind 1
  for (to_seven.random = 0; to_seven.random < 1; to_seven.random += 1e-3) {
    ASSERT_TRUE(choose(1, 0, {&to_seven, 1}, chosen).ok());
    if (chosen[0].id == 7) break;
  }
  ASSERT_LT(to_seven.random, 1);
  const std::vector<TokenChoice> choices(n_passes, to_seven);
  chosen[0].id = -1;
  for (int tries = 0; chosen[0].id < 0 && tries < 2; tries++) ASSERT_TRUE(choose(1, 0, choices, chosen).ok());
  ASSERT_EQ(chosen[0].id, 7);
  for (size_t i = 1; i < n_passes; i++) EXPECT_EQ(chosen[i].id, -1);
  EXPECT_EQ(choose(7, 0, choices, chosen).code(), FINERMOE_ERROR_NOT_FINITE);
}

// The parts' heads are those of the whole, whichever layer a device has.
TEST_P(Forward, ACacheIsReadWrittenCopiedAndMovedByHead) {
  load(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  const std::vector<size_t> rows{5};
  std::vector<float> logits(model.config.vocab_size), again(logits.size());
  ASSERT_TRUE(run({3, 1, 4, 1, 5, 9}, {.rows = rows, .logits = logits.data()}, {go_on}).ok());
  const KvShape& shape = cache->shape();
  std::vector<std::vector<std::byte>> vectors(shape.n_heads(), std::vector<std::byte>(6 * shape.vector_bytes()));
  for (uint64_t head = 0; head < shape.n_heads(); head++) ASSERT_TRUE(cache->read(head, 0, 6, vectors[head]).ok());
  EXPECT_NE(vectors.front(), vectors.back());

  const std::unique_ptr<KvCache> first = std::move(cache);
  load(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  ASSERT_TRUE(run({7, 7, 7, 7, 7, 7}, {.rows = rows, .logits = again.data()}, {go_on}).ok());
  for (uint64_t head = 0; head < shape.n_heads(); head++) ASSERT_TRUE(cache->write(head, 0, 6, vectors[head]).ok());
  std::vector<std::byte> read(vectors[0].size());
  for (uint64_t head = 0; head < shape.n_heads(); head++) {
    ASSERT_TRUE(cache->read(head, 0, 6, read).ok());
    EXPECT_EQ(read, vectors[head]) << head;
  }
  ASSERT_TRUE(cache->move_down(1, 6, 1, model.config.rope).ok());
  for (uint64_t head = 0; head < shape.n_heads(); head++) {
    ASSERT_TRUE(cache->read(head, 0, 1, std::span(read).first(shape.vector_bytes())).ok());
    if (shape.kind_of(head) == KvKind::key) continue;  // keys are rotated too
    const std::byte* const second = vectors[head].data() + shape.vector_bytes();
    EXPECT_TRUE(std::equal(second, second + shape.vector_bytes(), read.data())) << head;
  }
  ASSERT_TRUE(cache->copy_prefix(*first, 6).ok());
  for (uint64_t head = 0; head < shape.n_heads(); head++) {
    ASSERT_TRUE(cache->read(head, 0, 6, read).ok());
    EXPECT_EQ(read, vectors[head]) << head;
  }
  EXPECT_EQ(cache->bytes(), first->bytes());
}

}  // namespace
}  // namespace finermoe
