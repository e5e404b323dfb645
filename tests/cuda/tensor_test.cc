// Precision `fast` on tensor cores: the products of what was rounded, summed in float32; the same for any number of
// rows and in any order of threads. On the emulated device.
#include <numeric>

#include "../backend/support.h"
#include "cuda/kernels.h"
#include "emulated_driver.h"

namespace finermoe {
namespace {

class TensorCores : public testing::Test {
 protected:
  void SetUp() override {
    if (!runs_fibers) GTEST_SKIP() << "this sanitizer does not run the emulated device";
  }
  void TearDown() override { emulated::settings() = {}; }
};

// As tensor cores take it, for weights of a type.
float rounded(float x, DType weights) {
  const DType type = cuda::operand_type(weights);
  if (type == DType::bf16) return bf16_to_float(float_to_bf16(x));
  return type == DType::f16 ? f16_to_float(float_to_f16(x)) : x;
}
std::vector<double> rounded_times(const RandomMatrix& matrix, DType type, const float* x) {
  const size_t rows = matrix.tensor().rows, columns = matrix.tensor().columns;
  std::vector<double> out(rows);
  for (size_t r = 0; r < rows; r++) {
    for (size_t c = 0; c < columns; c++) {
      out[r] += double(rounded(matrix.values()[r * columns + c], type)) * double(rounded(x[c], type));
    }
  }
  return out;
}

constexpr DType all_types[] = {DType::bf16, DType::f16, DType::f32, DType::q8, DType::q4};

struct Product {
  uint64_t rows, columns;
  size_t n;
};
std::vector<float> multiply(const RandomMatrix& weight, const std::vector<float>& x, size_t n, bool accumulate,
                            Precision precision = Precision::fast) {
  const uint64_t rows = weight.tensor().rows;
  auto backend = emulated_cuda();
  Operations on(*backend, config_of(weight.tensor().columns, 8, {}, 0), n);
  on.begin(precision);
  const DevicePtr<float> out = on.put(std::vector<float>(n * rows, 1));
  on->linear(on.put(x), on.bind(weight), n, accumulate, out);
  return on.get(out, n * rows);
}

// Rows and columns that end within a tile, a step and a block, rows that begin at odd places; the last is of wide
// tiles.
TEST_F(TensorCores, LinearOfEveryType) {
  for (const DType dtype : all_types) {
    for (const Product& of : {Product{70, 280, 17}, {33, 77, 64}, {65, 8, 65}, {1, 3, 40}, {6100, 40, 150}}) {
      SCOPED_TRACE(format_text(name_of(dtype), " ", of.rows, " x ", of.columns, ", ", of.n, " rows"));
      const RandomMatrix weight(dtype, of.rows, of.columns, 1);
      const std::vector<float> x = random_floats(of.n * of.columns, 2);
      const bool accumulate = of.n != 17;
      const std::vector<float> out = multiply(weight, x, of.n, accumulate);
      for (const size_t i : {size_t{0}, size_t{16}, of.n / 2, of.n - 1}) {
        std::vector<double> expected = rounded_times(weight, dtype, &x[i * of.columns]);
        for (double& value : expected) value += accumulate;
        expect_close(&out[i * of.rows], expected, 2e-6);
      }
    }
  }
}

// The order of summation is that of the columns, so a row gets the same bits in tiles of either size.
// Queries, keys and values share a launch where tensor cores take them as one type, whatever they are stored as.
TEST_F(TensorCores, QueriesKeysAndValues) {
  const uint64_t h = 40, d = 36, n = 20, n_heads = 4, n_kv_heads = 2;
  for (const auto& [of_q, of_k, of_v] : {std::tuple{DType::bf16, DType::q8, DType::q4},
                                         {DType::f16, DType::f16, DType::f16},
                                         {DType::bf16, DType::f32, DType::f16}}) {
    SCOPED_TRACE(format_text(name_of(of_q), ", ", name_of(of_k), ", ", name_of(of_v)));
    const RandomMatrix q(of_q, n_heads * d, h, 1), k(of_k, n_kv_heads * d, h, 2), v(of_v, n_kv_heads * d, h, 3);
    const std::vector<float> x = random_floats(n * h, 4);
    auto backend = emulated_cuda();
    auto cache = backend->make_kv_cache({1, n_kv_heads, d, n, DType::f32}, no_limit(), "a test");
    ASSERT_TRUE(cache.ok());
    Config config = config_of(h, 8, {}, 0, d);
    config.n_heads = n_heads, config.n_kv_heads = n_kv_heads;
    const std::vector<int32_t> tokens(n);
    std::vector<uint32_t> positions(n);
    std::iota(positions.begin(), positions.end(), 0u);
    const std::vector<uint32_t> sessions(n);
    KvCache* const of_session = cache->get();
    Operations on(*backend, config, n);
    on.begin({tokens, positions, sessions, {&of_session, 1}}, Precision::fast);
    const DevicePtr<float> out = on.put(std::vector<float>(n * n_heads * d));
    on->qkv(on.put(x), {on.bind(q), on.bind(k), on.bind(v), {}, {}, {}}, {h, n_heads, n_kv_heads, d}, 0, out);
    const std::vector<float> queries = on.get(out, n * n_heads * d);
    const auto cached = [&](uint64_t first_head, size_t position) {
      std::vector<float> vectors(n_kv_heads * d);
      for (uint64_t head = 0; head < n_kv_heads; head++) {
        const std::span<float> vector(&vectors[head * d], d);
        EXPECT_TRUE((*cache)->read(first_head + head, position, 1, std::as_writable_bytes(vector)).ok());
      }
      return vectors;
    };
    // Position 0 is not rotated, and values never are.
    expect_close(queries.data(), rounded_times(q, of_q, x.data()), 2e-6);
    expect_close(cached(0, 0).data(), rounded_times(k, of_k, x.data()), 2e-6);
    for (const size_t i : {size_t{0}, n - 1}) {
      expect_close(cached(n_kv_heads, i).data(), rounded_times(v, of_v, &x[i * h]), 2e-6);
    }
  }
}

TEST_F(TensorCores, ARowDoesNotDependOnTheOthers) {
  const RandomMatrix weight(DType::bf16, 6100, 72, 1);
  const std::vector<float> x = random_floats(150 * 72, 2), few(x.begin(), x.begin() + 20 * 72);
  const std::vector<float> together = multiply(weight, x, 150, false), alone = multiply(weight, few, 20, false);
  EXPECT_EQ(0, std::memcmp(together.data(), alone.data(), alone.size() * sizeof(float)));
}

TEST_F(TensorCores, NumbersBeyondFloat16StayFinite) {
  const RandomMatrix weight(DType::f16, 16, 40, 1, 0.01f);
  std::vector<float> x = random_floats(17 * 40, 2);
  x[3] = 1e6f, x[40 + 3] = -INFINITY;
  const std::vector<float> out = multiply(weight, x, 17, false);
  EXPECT_NEAR(out[0], 65504 * weight.values()[3], 1);
  EXPECT_FALSE(std::isfinite(out[16]));
}

// Up to 16 rows, at `exact`, and on a device without such tensor cores, activations are not rounded.
TEST_F(TensorCores, AreNotUsedWhereNothingMayBeRounded) {
  const RandomMatrix weight(DType::bf16, 40, 72, 1);
  const std::vector<float> x = random_floats(20 * 72, 2), few(x.begin(), x.begin() + 16 * 72);
  const std::vector<float> exact = multiply(weight, x, 20, false, Precision::exact);
  EXPECT_NE(exact, multiply(weight, x, 20, false));
  EXPECT_EQ(multiply(weight, few, 16, false, Precision::exact), multiply(weight, few, 16, false));
  emulated::settings().compute_major = 7;
  emulated::settings().compute_minor = 5;
  EXPECT_EQ(exact, multiply(weight, x, 20, false));
}

// A layer of experts with 16 in all, of which each token has two, whose matrices are of the types given in turns.
class Layer {
 public:
  static constexpr uint64_t h = 72, width = 35, h_e = 36;
  static constexpr RouterShape shape{
      .granularity_inter = 4, .expansion_inter = 2, .granularity_output = 2, .expansion_output = 1, .top_inter = 1};

  explicit Layer(const std::vector<DType>& types) {
    for (uint32_t e = 0; e < shape.n_experts(); e++) {
      const DType dtype = types[e % types.size()];
      gates_.emplace_back(dtype, width, h, 5 * e, 0.2f);
      ups_.emplace_back(dtype, width, h, 5 * e + 1, 0.2f);
      downs_.emplace_back(dtype, h_e, width, 5 * e + 2, 0.2f);
    }
  }
  std::vector<float> run(const std::vector<float>& x, const std::vector<int32_t>& chosen,
                         const std::vector<float>& weights, Precision precision) const {
    const size_t n = x.size() / h;
    auto backend = emulated_cuda();
    Operations on(*backend, config_of(h, 8, shape, width), n);
    on.begin(precision);
    std::vector<FfnWeights> experts;
    std::vector<uint32_t> all(gates_.size());
    std::iota(all.begin(), all.end(), 0u);
    for (size_t e = 0; e < gates_.size(); e++) {
      experts.push_back({on.bind(gates_[e]), on.bind(ups_[e]), on.bind(downs_[e])});
    }
    const DevicePtr<float> out = on.put(std::vector<float>(n * h, 3));
    on->moe_ffn(on.put(x), experts, all, shape, {{}, on.put(chosen), on.put(weights), {}}, n, true, out);
    return on.get(out, n * h);
  }
  // What is added to a token's row.
  std::vector<double> expected(const float* x, const int32_t* chosen, const float* weights, DType type) const {
    std::vector<double> out(h);
    for (size_t slot = 0; slot < shape.n_experts_per_token(); slot++) {
      const auto e = static_cast<size_t>(chosen[slot]);
      const std::vector<double> gate = rounded_times(gates_[e], type, x), up = rounded_times(ups_[e], type, x);
      std::vector<float> activated(width);
      for (size_t i = 0; i < width; i++) {
        activated[i] = static_cast<float>(double(weights[slot]) * gate[i] / (1 + std::exp(-gate[i])) * up[i]);
      }
      const std::vector<double> down = rounded_times(downs_[e], type, activated.data());
      for (size_t i = 0; i < h_e; i++) out[shape.component_of(e) * h_e + i] += down[i];
    }
    return out;
  }

 private:
  std::vector<RandomMatrix> gates_, ups_, downs_;
};

// Experts of each component: in turns, or one for all tokens.
std::vector<int32_t> route_of(size_t n, bool is_even) {
  const auto per_component = static_cast<int32_t>(Layer::shape.n_experts() / 2);
  std::vector<int32_t> chosen;
  for (size_t i = 0; i < n; i++) {
    for (int32_t component = 0; component < 2; component++) {
      const int32_t first = component * per_component;
      chosen.push_back(is_even ? first + static_cast<int32_t>(i * 5) % per_component : first + 3);
    }
  }
  return chosen;
}

TEST_F(TensorCores, ExpertsOfEveryType) {
  for (const DType dtype : all_types) {
    const Layer layer({dtype});
    for (const auto& [n, is_even] : {std::pair<size_t, bool>{17, true}, {70, false}, {530, true}}) {
      SCOPED_TRACE(format_text(name_of(dtype), ", ", n, " rows"));
      const std::vector<float> x = random_floats(n * Layer::h, 9), weights = random_floats(n * 2, 10);
      const std::vector<int32_t> chosen = route_of(n, is_even);
      const std::vector<float> out = layer.run(x, chosen, weights, Precision::fast);
      for (const size_t i : {size_t{0}, n / 2, n - 1}) {
        std::vector<double> expected = layer.expected(&x[i * Layer::h], &chosen[i * 2], &weights[i * 2], dtype);
        for (double& value : expected) value += 3;
        expect_close(&out[i * Layer::h], expected, 3e-4);  // a number that is rounded the other way is 2e-3 of itself
      }
    }
  }
}

TEST_F(TensorCores, ExpertsOfSeveralTypesAreComputedInFloat32) {
  const Layer layer({DType::bf16, DType::f16, DType::f32});
  const std::vector<float> x = random_floats(20 * Layer::h, 9), weights = random_floats(40, 10);
  const std::vector<int32_t> chosen = route_of(20, true);
  EXPECT_EQ(layer.run(x, chosen, weights, Precision::exact), layer.run(x, chosen, weights, Precision::fast));
  const Layer mixed({DType::bf16, DType::q8, DType::q4});  // all of them are BF16 to tensor cores
  EXPECT_NE(mixed.run(x, chosen, weights, Precision::exact), mixed.run(x, chosen, weights, Precision::fast));
}

TEST_F(TensorCores, OneFfnOfEveryType) {
  const uint64_t h = 72, width = 131;
  for (const DType dtype : all_types) {
    const RandomMatrix gate(dtype, width, h, 1, 0.2f), up(dtype, width, h, 2, 0.2f), down(dtype, h, width, 3, 0.2f);
    const RandomMatrix scale(DType::f32, 1, h, 4, 0.2f);
    for (const size_t n : {17, 70}) {
      SCOPED_TRACE(format_text(name_of(dtype), ", ", n, " rows"));
      const std::vector<float> x = random_floats(n * h, 5);
      auto backend = emulated_cuda();
      Operations on(*backend, config_of(h, width, {}, 0), n);
      on.begin(Precision::fast);
      const DevicePtr<float> place = on.put(std::vector<float>(n * h, 2));
      on->gated_ffn(on.put(x), {on.bind(gate), on.bind(up), on.bind(down)}, on.bind(scale), n, place);
      const std::vector<float> out = on.get(place, n * h);
      for (const size_t i : {size_t{0}, n - 1}) {
        const float* const row = &x[i * h];
        const double factor = 1 / (1 + std::exp(-scale.times(row)[0]));
        const std::vector<double> g = rounded_times(gate, dtype, row), u = rounded_times(up, dtype, row);
        std::vector<float> activated(width);
        for (size_t c = 0; c < width; c++) {
          activated[c] = static_cast<float>(factor * g[c] / (1 + std::exp(-g[c])) * u[c]);
        }
        std::vector<double> expected = rounded_times(down, dtype, activated.data());
        for (double& value : expected) value += 2;
        expect_close(&out[i * h], expected, 3e-4);
      }
    }
  }
}

TEST_F(TensorCores, TheOrderOfThreadsMakesNoDifference) {
  for (const DType dtype : {DType::bf16, DType::q4}) {
    const Layer layer({dtype});
    const std::vector<float> x = random_floats(70 * Layer::h, 9), weights = random_floats(140, 10);
    const std::vector<int32_t> chosen = route_of(70, true);
    std::vector<std::vector<float>> found;
    for (const emulated::Order order :
         {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
      emulated::settings().order = order;
      found.push_back(layer.run(x, chosen, weights, Precision::fast));
    }
    EXPECT_EQ(found[0], found[1]);
    EXPECT_EQ(found[0], found[2]);
  }
}

}  // namespace
}  // namespace finermoe
