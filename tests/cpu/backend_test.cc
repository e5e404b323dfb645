// The operations of the CPU backend: against double precision, and bit-equal for any number of threads.
#include <algorithm>
#include <numeric>
#include <thread>

#include "backend/select_experts.h"
#include "support.h"

namespace finermoe {
namespace {

class BackendTest : public EveryIsa {
 protected:
  // Runs `operation` with 1, 2, 3 and 8 threads and expects the same bits; returns them.
  std::vector<float> same_for_any_thread_count(const Config& config, size_t n,
                                               FunctionRef<std::vector<float>(Backend&, Workspace&)> operation) const {
    std::vector<float> first;
    for (uint32_t n_threads : {1, 2, 3, 8}) {
      auto device = backend(n_threads);
      const std::vector<float> out = operation(*device, *workspace_of(*device, config, n));
      if (first.empty()) first = out;
      EXPECT_EQ(0, std::memcmp(first.data(), out.data(), out.size() * sizeof(float))) << n_threads << " threads";
    }
    return first;
  }
};
FINERMOE_FOR_EVERY_ISA(BackendTest);

double silu(double x) { return x / (1 + std::exp(-x)); }

struct RandomFfn {
  RandomMatrix gate, up, down;
  RandomFfn(DType dtype, uint64_t hidden, uint64_t width, uint64_t out, uint32_t seed)
      : gate(dtype, width, hidden, seed, 0.2f),
        up(dtype, width, hidden, seed + 1, 0.2f),
        down(dtype, out, width, seed + 2, 0.2f) {}
  FfnWeights view() const { return {gate.view(), up.view(), down.view()}; }
  std::vector<double> operator()(const float* x) const {
    std::vector<double> g = gate.times(x), u = up.times(x);
    std::vector<float> activated(g.size());
    for (size_t i = 0; i < g.size(); i++) activated[i] = float(silu(g[i]) * u[i]);
    return down.times(activated.data());
  }
};

TEST_P(BackendTest, LinearOfAnyNumberOfRows) {
  const uint64_t rows = 301, columns = 280;
  const RandomMatrix weight(DType::bf16, rows, columns, 1);
  for (size_t n : {1, 2, 7, 8, 20, 40, 130, 300, 500}) {
    SCOPED_TRACE(n);
    const std::vector<float> x = random_floats(n * columns, 2);
    const std::vector<float> out =
        same_for_any_thread_count(config_of(columns, 8, {}, 0), n, [&](Backend& device, Workspace& workspace) {
          std::vector<float> result(n * rows, 1);
          EXPECT_TRUE(device.linear(x.data(), weight.view(), n, n % 2 == 0, result.data(), workspace).ok());
          return result;
        });
    for (size_t i : {size_t{0}, n / 2, n - 1}) {
      std::vector<double> expected = weight.times(x.data() + i * columns);
      for (double& value : expected) value += n % 2 == 0;
      expect_close(out.data() + i * rows, expected, 2e-6);
    }
  }
}

TEST_P(BackendTest, EmbedTakesRowsOfAnyType) {
  for (DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    const RandomMatrix table(dtype, 50, 37, 3);
    std::vector<int32_t> tokens(70);
    for (size_t i = 0; i < tokens.size(); i++) tokens[i] = int32_t(i * 7 % 50);
    std::vector<float> out(tokens.size() * 37);
    ASSERT_TRUE(backend()->embed(table.view(), tokens, out.data()).ok());
    for (size_t i = 0; i < tokens.size(); i++) {
      ASSERT_EQ(0, std::memcmp(&out[i * 37], &table.values()[size_t(tokens[i]) * 37], 37 * sizeof(float)));
    }
    for (int32_t wrong : {-1, 50}) {
      EXPECT_EQ(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE, backend()->embed(table.view(), {{0, wrong}}, out.data()).code());
    }
  }
}

TEST_P(BackendTest, RmsNormOfManyRows) {
  const size_t n = 70, h = 36;
  const RandomMatrix weight(DType::f16, h, 1, 4);
  const std::vector<float> x = random_floats(n * h, 5);
  std::vector<float> out(n * h);
  ASSERT_TRUE(backend()->rms_norm(x.data(), weight.vector(), 1e-6, n, out.data()).ok());
  for (size_t i = 0; i < n; i++) {
    double squares = 0;
    for (size_t c = 0; c < h; c++) squares += double(x[i * h + c]) * double(x[i * h + c]);
    for (size_t c = 0; c < h; c++) {
      const double expected = double(x[i * h + c]) / std::sqrt(squares / h + 1e-6) * double(weight.values()[c]);
      ASSERT_NEAR(out[i * h + c], expected, 1e-5);
    }
  }
}

TEST_P(BackendTest, GatedFfnWithAndWithoutScale) {
  const uint64_t h = 72, width = 531;
  const RandomFfn ffn(DType::bf16, h, width, h, 6);
  const RandomMatrix scale(DType::bf16, 1, h, 9, 0.3f);
  for (size_t n : {1, 5, 40, 250}) {
    SCOPED_TRACE(n);
    const std::vector<float> x = random_floats(n * h, 7);
    const bool scaled = n != 5;
    const std::vector<float> out =
        same_for_any_thread_count(config_of(h, width, {}, 0), n, [&](Backend& device, Workspace& workspace) {
          std::vector<float> result(n * h, 2);
          const WeightView factor = scaled ? scale.view() : WeightView{};
          EXPECT_TRUE(device.gated_ffn(x.data(), ffn.view(), factor, n, result.data(), workspace).ok());
          return result;
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
TEST_P(BackendTest, MoeFfnTouchesChosenExpertsOnly) {
  struct Case {
    uint64_t g_i, r_i, g_o, r_o, t_i, width;
    size_t n;
  };
  for (const Case& c : {Case{4, 2, 2, 2, 1, 24, 1},
                        {4, 1, 2, 2, 2, 35, 40},
                        {8, 1, 1, 1, 4, 13, 130},
                        {2, 1, 4, 4, 1, 280, 300},
                        {256, 1, 2, 2, 1, 6, 3}}) {
    SCOPED_TRACE(cat(c.g_o * c.r_o * c.g_i * c.r_i, " experts, ", c.n, " tokens"));
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
    std::vector<FfnWeights> views(n_experts);
    for (uint64_t e = 0; e < n_experts; e++) {
      experts.emplace_back(DType::bf16, h, c.width, h_e, uint32_t(10 + 3 * e));
      views[e] = experts[e].view();
      if (std::find(chosen.begin(), chosen.end(), int32_t(e)) != chosen.end()) continue;
      views[e].gate.data = views[e].up.data = views[e].down.data = nullptr;  // touching it would crash
      if (e == 0) views[0] = experts[0].view();
    }
    const Route route{nullptr, chosen.data(), weights.data(), nullptr};
    for (bool accumulate : {false, true}) {
      const std::vector<float> out =
          same_for_any_thread_count(config_of(h, 8, shape, c.width), c.n, [&](Backend& device, Workspace& workspace) {
            std::vector<float> result(c.n * h, 3);
            EXPECT_TRUE(device.moe_ffn(x.data(), views, shape, route, c.n, accumulate, result.data(), workspace).ok());
            return result;
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

TEST_P(BackendTest, RouteIsLinearThenSelection) {
  const uint64_t h = 72;
  for (bool separate : {false, true}) {
    RouterShape shape{.granularity_inter = 8,
                      .expansion_inter = 2,
                      .granularity_output = 2,
                      .expansion_output = 2,
                      .top_inter = 2,
                      .separate = separate};
    const uint64_t n_experts = shape.n_experts(), k = shape.n_experts_per_token();
    const RandomMatrix gate(DType::bf16, n_experts, h, 10), concat_gate(DType::f32, shape.n_groups(), h, 11);
    const RouterWeights weights{gate.view(), separate ? concat_gate.view() : WeightView{}};
    for (size_t n : {1, 33, 100}) {
      std::vector<float> x = random_floats(n * h, 12), logits(n * n_experts), chosen_weights(n * k);
      std::vector<int32_t> experts(n * k), groups(n * 2);
      const Route route{logits.data(), experts.data(), chosen_weights.data(), groups.data()};
      auto device = backend();
      auto workspace = workspace_of(*device, config_of(h, 8, shape, 4), n);
      ASSERT_TRUE(device->route(x.data(), weights, shape, n, route, *workspace).ok());
      for (size_t i = 0; i < n; i++) {
        expect_close(&logits[i * n_experts], gate.times(&x[i * h]), 2e-6);
        const std::vector<double> exact_scores = concat_gate.times(&x[i * h]);
        const std::vector<float> scores(exact_scores.begin(), exact_scores.end());
        std::vector<int32_t> expected(k), expected_groups(2);
        std::vector<float> expected_weights(k);
        select_experts(shape, &logits[i * n_experts], separate ? scores.data() : nullptr, expected.data(),
                       expected_weights.data(), expected_groups.data());
        EXPECT_TRUE(std::equal(expected.begin(), expected.end(), &experts[i * k]));
        EXPECT_TRUE(std::equal(expected_weights.begin(), expected_weights.end(), &chosen_weights[i * k]));
        EXPECT_TRUE(std::equal(expected_groups.begin(), expected_groups.end(), &groups[i * 2]));
      }
      x[(n - 1) * h + 3] = INFINITY;
      const Status status = device->route(x.data(), weights, shape, n, route, *workspace);
      EXPECT_EQ(FINERMOE_ERROR_NOT_FINITE, status.code());
      EXPECT_NE(std::string::npos, status.message().find(cat("row ", n - 1, ", expert 0"))) << status.message();
    }
  }
}

TEST_P(BackendTest, SeveralSessionsAtOnceFromSeveralThreads) {
  const uint64_t h = 72, width = 200;
  const RandomFfn ffn(DType::bf16, h, width, h, 50);
  auto device = backend(3);
  auto compute = [&](size_t n) {
    const std::vector<float> x = random_floats(n * h, uint32_t(n));
    std::vector<float> out(n * h);
    auto workspace = workspace_of(*device, config_of(h, width, {}, 0), n);
    EXPECT_TRUE(device->gated_ffn(x.data(), ffn.view(), {}, n, out.data(), *workspace).ok());
    return out;
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

TEST(WorkspaceTest, TakesTheBytesItPromises) {
  const RouterShape shape{.granularity_inter = 32,
                          .expansion_inter = 1,
                          .granularity_output = 2,
                          .expansion_output = 2,
                          .top_inter = 1,
                          .separate = true};
  for (uint32_t n_threads : {1, 4}) {
    auto device = backend_of(portable::kernels, n_threads);
    for (size_t n : {1, 8, 512}) {
      for (const RouterShape& router : {shape, RouterShape{}}) {
        const Config config = config_of(1536, 8960, router, 280, 128);
        auto account = std::make_shared<MemoryAccount>(0);
        auto workspace = device->make_workspace(config, n, 4096, account);
        ASSERT_TRUE(workspace.ok());
        EXPECT_EQ(workspace_bytes(config, n, 4096, n_threads), account->used());
        (*workspace).reset();
        EXPECT_EQ(0u, account->used());
        EXPECT_EQ(FINERMOE_ERROR_MEMORY_LIMIT,
                  device->make_workspace(config, n, 4096, std::make_shared<MemoryAccount>(100)).status().code());
      }
    }
  }
  // One row costs little: decoding sessions should not hold prefill's scratch.
  EXPECT_LT(workspace_bytes(config_of(1536, 8960, shape, 280, 128), 1, 4096, 2), 1u << 20);
}

TEST(ResolveIsaTest, RefusesWhatIsNotThere) {
  EXPECT_TRUE(resolve_isa(FINERMOE_ISA_AUTO).ok());
  EXPECT_NE(FINERMOE_ISA_AUTO, *resolve_isa(FINERMOE_ISA_AUTO));
  EXPECT_EQ(FINERMOE_ISA_PORTABLE, *resolve_isa(FINERMOE_ISA_PORTABLE));
  EXPECT_EQ(FINERMOE_ERROR_INVALID_ARGUMENT, resolve_isa(-1).status().code());
  EXPECT_EQ(FINERMOE_ERROR_INVALID_ARGUMENT, open_backend({9, std::make_shared<ThreadPool>(1)}).status().code());
}

#if defined(__x86_64__)
TEST(KernelsOfTest, TheProcessorChoosesAmongTheTablesOfAnInstructionSet) {
  EXPECT_EQ(&portable::kernels, &kernels_of(FINERMOE_ISA_PORTABLE));
  const Kernels& expected = detect_cpu_features().avx_vnni ? avx2_vnni::kernels : avx2::kernels;
  EXPECT_EQ(&expected, &kernels_of(FINERMOE_ISA_AVX2));
  EXPECT_EQ(&avx512::kernels, &kernels_of(FINERMOE_ISA_AVX512));
}
#endif

}  // namespace
}  // namespace finermoe
