// The operations of every device: against double precision, and bit-equal for any number of threads.
#include <algorithm>
#include <numeric>
#include <thread>

#include "backend/select_experts.h"
#include "support.h"

namespace finermoe {
namespace {

class OperationsTest : public EveryDevice {
 protected:
  // Runs `operation` with 1, 2, 3 and 8 threads and expects the same bits; returns them.
  std::vector<float> same_for_any_thread_count(const Config& config, size_t n,
                                               FunctionRef<std::vector<float>(Operations&)> operation) const {
    std::vector<float> first;
    for (const uint32_t n_threads : thread_counts()) {
      auto backend = device(n_threads);
      Operations operations(*backend, config, n);
      const std::vector<float> out = operation(operations.begin());
      if (first.empty()) first = out;
      EXPECT_EQ(0, std::memcmp(first.data(), out.data(), out.size() * sizeof(float))) << n_threads << " threads";
    }
    return first;
  }
};
FINERMOE_FOR_EVERY_DEVICE(OperationsTest);

double silu(double x) { return x / (1 + std::exp(-x)); }

struct RandomFfn {
  RandomMatrix gate, up, down;
  RandomFfn(DType dtype, uint64_t hidden, uint64_t width, uint64_t out, uint32_t seed)
      : gate(dtype, width, hidden, seed, 0.2f),
        up(dtype, width, hidden, seed + 1, 0.2f),
        down(dtype, out, width, seed + 2, 0.2f) {}
  FfnWeights bind(Operations& on) const { return {on.bind(gate), on.bind(up), on.bind(down)}; }
  std::vector<double> operator()(const float* x) const {
    std::vector<double> g = gate.times(x), u = up.times(x);
    std::vector<float> activated(g.size());
    for (size_t i = 0; i < g.size(); i++) activated[i] = float(silu(g[i]) * u[i]);
    return down.times(activated.data());
  }
};

TEST_P(OperationsTest, LinearOfAnyNumberOfRows) {
  const uint64_t rows = 301, columns = 280;
  const RandomMatrix weight(DType::bf16, rows, columns, 1);
  for (size_t n : {1, 2, 7, 8, 20, 40, 130, 300, 500}) {
    SCOPED_TRACE(n);
    const std::vector<float> x = random_floats(n * columns, 2);
    const std::vector<float> out = same_for_any_thread_count(config_of(columns, 8, {}, 0), n, [&](Operations& on) {
      const DevicePtr<float> result = on.put(std::vector<float>(n * rows, 1));
      on->linear(on.put(x), on.bind(weight), n, n % 2 == 0, result);
      return on.get(result, n * rows);
    });
    for (size_t i : {size_t{0}, n / 2, n - 1}) {
      std::vector<double> expected = weight.times(x.data() + i * columns);
      for (double& value : expected) value += n % 2 == 0;
      expect_close(out.data() + i * rows, expected, 2e-6);
    }
  }
}

// Few rows and many, columns that end within a block, rows that do not begin at multiples of 16 bytes.
TEST_P(OperationsTest, MatricesOfEveryType) {
  auto backend = device();
  for (DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4}) {
    for (auto [rows, columns] : {std::pair<uint64_t, uint64_t>{70, 280}, {33, 77}, {16, 1000}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (size_t n : {1, 3, 4, 9, 40}) {
        SCOPED_TRACE(format_text(name_of(dtype), " ", rows, " x ", columns, ", ", n, " rows"));
        Config config = config_of(columns, 8, {}, 0);
        config.vocab_size = rows;
        Operations on(*backend, config, n);
        std::vector<int32_t> tokens(n);
        for (size_t i = 0; i < n; i++) tokens[i] = int32_t(i * 7 % rows);
        const std::vector<uint32_t> positions(n), sessions(n);
        on.begin({tokens, positions, sessions, {}}, Precision::exact);
        const std::vector<float> x = random_floats(n * columns, 2);
        const DevicePtr<float> product = on.put(std::vector<float>(n * rows, 1));
        const DevicePtr<float> taken = on.put(std::vector<float>(n * columns));
        on->linear(on.put(x), on.bind(weight), n, true, product);
        on->embed(on.bind(weight), taken);
        const std::vector<float> out = on.get(product, n * rows), embedded = on.get(taken, n * columns);
        for (size_t i = 0; i < n; i++) {
          std::vector<double> expected = weight.times(&x[i * columns]);
          for (double& value : expected) value += 1;
          expect_close(&out[i * rows], expected, 3e-6);
          ASSERT_EQ(0, std::memcmp(&embedded[i * columns], &weight.values()[size_t(tokens[i]) * columns],
                                   columns * sizeof(float)));
        }
      }
    }
  }
}

TEST_P(OperationsTest, EmbedTakesRowsOfAnyType) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const RandomMatrix table(dtype, 50, 37, 3);
    std::vector<int32_t> tokens(70);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = int32_t(i * 7 % 50);
    auto backend = device();
    Config config = config_of(37, 8, {}, 0);
    config.vocab_size = 50;
    Operations on(*backend, config, tokens.size());
    const std::vector<uint32_t> positions(tokens.size()), sessions(tokens.size());
    on.begin({tokens, positions, sessions, {}}, Precision::exact);
    const DevicePtr<float> place = on.put(std::vector<float>(tokens.size() * 37));
    on->embed(on.bind(table), place);
    const std::vector<float> out = on.get(place, tokens.size() * 37);
    for (size_t i = 0; i < tokens.size(); i++) {
      ASSERT_EQ(0, std::memcmp(&out[i * 37], &table.values()[size_t(tokens[i]) * 37], 37 * sizeof(float)));
    }
    for (int32_t wrong : {-1, 50}) {
      on->end();
      const std::vector<int32_t> two{0, wrong};
      const RaggedBatch batch{two, std::span(positions).first(2), std::span(sessions).first(2), {}};
      EXPECT_EQ(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE, on->begin(batch, Precision::exact).code());
    }
  }
}

TEST_P(OperationsTest, RmsNormOfManyRows) {
  const size_t n = 70, h = 36;
  const RandomMatrix weight(DType::f16, h, 1, 4);
  const std::vector<float> x = random_floats(n * h, 5);
  auto backend = device();
  Operations on(*backend, config_of(h, 8, {}, 0), n);
  const DevicePtr<float> place = on.begin().put(std::vector<float>(n * h));
  on->rms_norm(on.put(x), on.bind(weight.vector()), 1e-6, n, place);
  const std::vector<float> out = on.get(place, n * h);
  for (size_t i = 0; i < n; i++) {
    double squares = 0;
    for (size_t c = 0; c < h; c++) squares += double(x[i * h + c]) * double(x[i * h + c]);
    for (size_t c = 0; c < h; c++) {
      const double expected = double(x[i * h + c]) / std::sqrt(squares / h + 1e-6) * double(weight.values()[c]);
      ASSERT_NEAR(out[i * h + c], expected, 1e-5);
    }
  }
}

TEST_P(OperationsTest, GatedFfnWithAndWithoutScale) {
  const uint64_t h = 72, width = 531;
  const RandomFfn ffn(DType::bf16, h, width, h, 6);
  const RandomMatrix scale(DType::bf16, 1, h, 9, 0.3f);
  for (size_t n : {1, 5, 40, 250}) {
    SCOPED_TRACE(n);
    const std::vector<float> x = random_floats(n * h, 7);
    const bool scaled = n != 5;
    const std::vector<float> out = same_for_any_thread_count(config_of(h, width, {}, 0), n, [&](Operations& on) {
      const DevicePtr<float> result = on.put(std::vector<float>(n * h, 2));
      on->gated_ffn(on.put(x), ffn.bind(on), scaled ? on.bind(scale) : WeightView{}, n, result);
      return on.get(result, n * h);
    });
    for (size_t i : {size_t{0}, n - 1}) {
      std::vector<double> expected = ffn(x.data() + i * h);
      const double factor = scaled ? 1 / (1 + std::exp(-scale.times(x.data() + i * h)[0])) : 1;
      for (double& value : expected) value = 2 + factor * value;
      expect_close(out.data() + i * h, expected, 1e-5);
    }
  }
}

// Every shape of routing: components, several experts in a component, ragged expert widths.
TEST_P(OperationsTest, MoeFfnTouchesChosenExpertsOnly) {
  struct Case {
    uint64_t g_i, r_i, g_o, r_o, t_i, width;
    size_t n;
  };
  for (const Case& c : {Case{4, 2, 2, 2, 1, 24, 1},
                        {4, 1, 2, 2, 2, 35, 40},
                        {8, 1, 1, 1, 4, 13, 130},
                        {2, 1, 4, 4, 1, 280, 300},
                        {256, 1, 2, 2, 1, 6, 3}}) {
    SCOPED_TRACE(format_text(c.g_o * c.r_o * c.g_i * c.r_i, " experts, ", c.n, " tokens"));
    const uint64_t h = 72;
    RouterShape shape{.granularity_inter = c.g_i,
                      .expansion_inter = c.r_i,
                      .granularity_output = c.g_o,
                      .expansion_output = c.r_o,
                      .top_inter = c.t_i};
    const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token(), h_e = h / c.g_o;
    const std::vector<float> logits = random_floats(c.n * n_experts, 8), x = random_floats(c.n * h, 9);
    std::vector<int32_t> chosen(c.n * k);
    std::vector<float> weights(c.n * k);
    for (size_t i = 0; i < c.n; i++) {
      select_experts(shape, &logits[i * n_experts], nullptr, &chosen[i * k], &weights[i * k], nullptr);
    }
    std::vector<RandomFfn> experts;
    for (uint64_t e = 0; e < n_experts; e++) experts.emplace_back(DType::bf16, h, c.width, h_e, uint32_t(10 + 3 * e));
    // All of them, and two halves one after the other.
    std::vector<uint32_t> all(n_experts), even, odd;
    std::iota(all.begin(), all.end(), 0u);
    std::copy_if(all.begin(), all.end(), std::back_inserter(even), [](uint32_t e) { return e % 2 == 0; });
    std::copy_if(all.begin(), all.end(), std::back_inserter(odd), [](uint32_t e) { return e % 2 == 1; });
    for (auto [accumulate, in_halves] : {std::pair{false, false}, {true, false}, {false, true}}) {
      const std::vector<float> out = same_for_any_thread_count(
          config_of(h, 8, shape, c.width), c.n, [&, add = accumulate, halved = in_halves](Operations& on) {
            std::vector<FfnWeights> views(n_experts);
            for (uint64_t e = 0; e < n_experts; e++) {
              views[e] = experts[e].bind(on);
              if (e == 0 || std::find(chosen.begin(), chosen.end(), int32_t(e)) != chosen.end()) continue;
              views[e].gate.data = views[e].up.data = views[e].down.data = {};  // touching it would crash
            }
            const Route route{{}, on.put(chosen), on.put(weights), {}};
            const DevicePtr<float> result = on.put(std::vector<float>(c.n * h, 3)), input = on.put(x);
            if (halved) {
              on->moe_ffn(input, views, even, shape, route, c.n, add, result);
              on->moe_ffn(input, views, odd, shape, route, c.n, true, result);
            } else {
              on->moe_ffn(input, views, all, shape, route, c.n, add, result);
            }
            return on.get(result, c.n * h);
          });
      for (size_t i : {size_t{0}, c.n / 2, c.n - 1}) {
        std::vector<double> expected(h, accumulate ? 3 : 0);
        for (size_t slot = 0; slot < k; slot++) {
          const auto expert = size_t(chosen[i * k + slot]);
          const std::vector<double> y = experts[expert](&x[i * h]);
          const uint64_t begin = shape.component_of(expert) * h_e;
          for (uint64_t o = 0; o < h_e; o++) expected[begin + o] += double(weights[i * k + slot]) * y[o];
        }
        expect_close(&out[i * h], expected, 1e-5);
      }
    }
  }
}

// Cut anywhere, also within a component, and added to what is there.
TEST_P(OperationsTest, PartsOfTheExpertsHaveTheBitsOfAll) {
  const uint64_t h = 72, width = 24;
  const RouterShape shape{
      .granularity_inter = 8, .expansion_inter = 1, .granularity_output = 2, .expansion_output = 1, .top_inter = 4};
  const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
  std::vector<RandomFfn> experts;
  for (uint64_t e = 0; e < n_experts; e++) {
    experts.emplace_back(DType::bf16, h, width, h / shape.granularity_output, uint32_t(10 + 3 * e));
  }
  std::vector<uint32_t> all(n_experts);
  std::iota(all.begin(), all.end(), 0u);
  for (const size_t n : {size_t{1}, size_t{5}, size_t{40}}) {
    SCOPED_TRACE(n);
    const std::vector<float> logits = random_floats(n * n_experts, 8), x = random_floats(n * h, 9);
    std::vector<int32_t> chosen(n * k);
    std::vector<float> weights(n * k);
    for (size_t i = 0; i < n; i++) {
      select_experts(shape, &logits[i * n_experts], nullptr, &chosen[i * k], &weights[i * k], nullptr);
    }
    const auto in_parts_of = [&](size_t size) {
      return same_for_any_thread_count(config_of(h, 8, shape, width), n, [&](Operations& on) {
        std::vector<FfnWeights> views;
        for (const RandomFfn& expert : experts) views.push_back(expert.bind(on));
        const Route route{{}, on.put(chosen), on.put(weights), {}};
        const DevicePtr<float> result = on.put(random_floats(n * h, 7)), input = on.put(x);
        for (size_t begin = 0; begin < n_experts; begin += size) {
          const auto part = std::span(all).subspan(begin, std::min(size, n_experts - begin));
          on->moe_ffn(input, views, part, shape, route, n, true, result);
        }
        return on.get(result, n * h);
      });
    };
    const std::vector<float> whole = in_parts_of(n_experts);
    for (const size_t size : {1, 3, 8}) EXPECT_EQ(in_parts_of(size), whole) << size;
  }
}

TEST_P(OperationsTest, RouteIsLinearThenSelection) {
  const uint64_t h = 72;
  // The same bits where the exponential is the host's; a GPU's own is wrong by 2 ulp at most, over a sum of such.
  const float exp_error = GetParam().name == "named" ? 1e-6f : 0;
  for (bool separate : {false, true}) {
    RouterShape shape{.granularity_inter = 8,
                      .expansion_inter = 2,
                      .granularity_output = 2,
                      .expansion_output = 2,
                      .top_inter = 2,
                      .separate = separate};
    const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
    const RandomMatrix gate(DType::bf16, n_experts, h, 10), concat_gate(DType::f32, shape.n_groups(), h, 11);
    for (size_t n : {1, 33, 100}) {
      std::vector<float> x = random_floats(n * h, 12);
      auto backend = device();
      Operations on(*backend, config_of(h, 8, shape, 4), n);
      on.begin();
      const RouterWeights weights{on.bind(gate), separate ? on.bind(concat_gate) : WeightView{}};
      const Route& route = on->activations().route;
      on->route(on.put(x), weights, shape, n, route);
      const std::vector<float> logits = on.get(route.logits, n * n_experts),
                               chosen_weights = on.get(route.weights, n * k);
      const std::vector<int32_t> experts = on.get(route.experts, n * k), groups = on.get(route.groups, n * 2);
      EXPECT_TRUE(on->row_error(n - 1).ok());
      for (size_t i = 0; i < n; i++) {
        expect_close(&logits[i * n_experts], gate.times(&x[i * h]), 2e-6);
        const std::vector<double> exact_scores = concat_gate.times(&x[i * h]);
        const std::vector<float> scores(exact_scores.begin(), exact_scores.end());
        std::vector<int32_t> expected(k), expected_groups(2);
        std::vector<float> expected_weights(k);
        select_experts(shape, &logits[i * n_experts], separate ? scores.data() : nullptr, expected.data(),
                       expected_weights.data(), expected_groups.data());
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), &experts[i * k]));
        for (size_t c = 0; c < k; c++) {
          ASSERT_NEAR(expected_weights[c], chosen_weights[i * k + c], exp_error * expected_weights[c]) << i << " " << c;
        }
        EXPECT_TRUE(std::equal(expected_groups.begin(), expected_groups.end(), &groups[i * 2]));
      }
      x[(n - 1) * h + 3] = INFINITY;
      on->route(on.put(x), weights, shape, n, route);
      ASSERT_TRUE(on->wait().ok());
      const Status status = on->row_error(n - 1);
      EXPECT_EQ(FINERMOE_ERROR_NOT_FINITE, status.code());
      EXPECT_NE(std::string::npos, status.message().find(format_text("row ", n - 1, ", expert 0"))) << status.message();
      EXPECT_EQ(n == 1, !on->row_error(0).ok());
      for (int32_t expert : on.get(route.experts, n * k)) ASSERT_TRUE(expert >= 0 && expert < int32_t(n_experts));
    }
  }
}

TEST_P(OperationsTest, SumsOfAnotherDeviceAreAdded) {
  auto backend = device();
  Operations on(*backend, config_of(8, 8, {}, 0), 1);
  on.begin();
  const std::vector<float> x = random_floats(40000, 3), y = random_floats(40000, 4);
  const DevicePtr<float> sum = on.put(y);
  on->add(on.put(x), x.size(), sum);
  const std::vector<float> out = on.get(sum, x.size());
  for (size_t i = 0; i < x.size(); i++) ASSERT_EQ(out[i], x[i] + y[i]);
}

TEST_P(OperationsTest, LogitsAreOnTheHost) {
  const RandomMatrix head(DType::bf16, 301, 72, 1);
  const std::vector<float> x = random_floats(3 * 72, 2);
  auto backend = device();
  Operations on(*backend, config_of(72, 8, {}, 0), 3);
  on.begin();
  std::vector<float> out(3 * 301);
  on->logits(on.put(x), on.bind(head), 3, out.data());
  ASSERT_TRUE(on->wait().ok());
  for (size_t i = 0; i < 3; i++) expect_close(&out[i * 301], head.times(&x[i * 72]), 2e-6);
}

TEST_P(OperationsTest, SeveralSessionsAtOnceFromSeveralThreads) {
  const uint64_t h = 72, width = 200;
  const RandomFfn ffn(DType::bf16, h, width, h, 50);
  auto backend = device(3);
  auto compute = [&](size_t n) {
    const std::vector<float> x = random_floats(n * h, uint32_t(n));
    Operations on(*backend, config_of(h, width, {}, 0), n);
    const DevicePtr<float> out = on.begin().put(std::vector<float>(n * h));
    on->gated_ffn(on.put(x), ffn.bind(on), {}, n, out);
    return on.get(out, n * h);
  };
  std::vector<std::vector<float>> alone;
  for (size_t n : {3, 17, 40}) alone.push_back(compute(n));
  std::vector<std::thread> callers;
  for (size_t i = 0; i < 3; i++) {
    callers.emplace_back([&, i] {
      for (int repeat = 0; repeat < 20; repeat++) EXPECT_EQ(alone[i], compute(alone[i].size() / h));
    });
  }
  for (std::thread& caller : callers) caller.join();
}

// Several threads at once, each with copies of its own, whose sources change as soon as they are given.
TEST_P(OperationsTest, CopiesHaveReadTheirSource) {
  auto backend = device();
  auto queue = backend->make_copy_queue(no_limit());
  if (!GetParam().device()->copies_weights()) {
    EXPECT_EQ(FINERMOE_ERROR_UNSUPPORTED, queue.status().code());
    return;
  }
  ASSERT_TRUE(queue.ok()) << queue.status().message();
  const auto copy_and_compare = [&](uint32_t seed) {
    for (const size_t n : {1, 1000, 700'001, 300'000, 5}) {
      const std::vector<float> values = random_floats(n, seed);
      std::vector<float> source = values;
      Operations on(*backend, config_of(64, 64, {}, 0), 1);
      on.begin();
      const DevicePtr<float> to = on.put(std::vector<float>(n));
      ASSERT_TRUE(on->wait().ok());
      ASSERT_TRUE((*queue)->copy(std::as_bytes(std::span(source)), to.as<std::byte>()).ok());
      std::fill(source.begin(), source.end(), NAN);
      on->wait_for(**queue);
      EXPECT_EQ(values, on.get(to, n)) << n;
    }
  };
  std::vector<std::thread> callers;
  for (uint32_t i = 0; i < 5; i++) callers.emplace_back([&, i] { copy_and_compare(i); });
  for (std::thread& caller : callers) caller.join();
}

TEST_P(OperationsTest, TakesTheBytesItPromises) {
  const std::shared_ptr<const Device> of = GetParam().device();
  const RouterShape shape{.granularity_inter = 32,
                          .expansion_inter = 1,
                          .granularity_output = 2,
                          .expansion_output = 2,
                          .top_inter = 1,
                          .separate = true};
  for (uint32_t n_threads : {1, 4}) {
    auto backend = device(n_threads);
    for (size_t n : {1, 8, 512}) {
      for (const RouterShape& router : {shape, RouterShape{}}) {
        const Config config = config_of(1536, 8960, router, 280, 128);
        auto account = no_limit();
        auto step = backend->make_step(config, n, 4096, account);
        ASSERT_TRUE(step.ok());
        EXPECT_EQ(of->step_bytes(config, n, 4096, n_threads), account->used());
        (*step).reset();
        EXPECT_EQ(0u, account->used());
        EXPECT_EQ(FINERMOE_ERROR_MEMORY_LIMIT,
                  backend->make_step(config, n, 4096, std::make_shared<MemoryAccount>(100)).status().code());
      }
    }
  }
  // One row costs little: decoding sessions should not hold prefill's scratch.
  Config of_one_row = config_of(1536, 8960, shape, 280, 128);
  of_one_row.vocab_size = 1 << 15;
  EXPECT_LT(of->step_bytes(of_one_row, 1, 4096, 2), 1u << 20);
}

TEST(DeferredDeviceTest, TheHostCannotReadItsMemory) {
  auto backend = deferred(open_cpu(kernel_sets()[0], 1));
  auto memory = backend->allocate(64, no_limit(), "a test");
  ASSERT_TRUE(memory.ok());
  EXPECT_DEATH(static_cast<void>(*static_cast<volatile std::byte*>((*memory)->begin().address())), "");
}

}  // namespace
}  // namespace finermoe
