// Precision `fast` on every device: activations are rounded, so that products are near those of arithmetic in double,
// and the more the wider the type that they are rounded to.
#include <numeric>

#include "support.h"

namespace finermoe {
namespace {

class FastOperations : public EveryDevice {
 protected:
  static constexpr DType types[] = {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4};
  // How near: activations in blocks have 8 bits, as BF16 has.
  static double tolerance(DType dtype) { return dtype == DType::f32 ? 3e-6 : 1e-2; }
};
FINERMOE_FOR_EVERY_DEVICE(FastOperations);

// Columns that end within a tile and within a block; few rows and many.
TEST_P(FastOperations, MatricesOfEveryType) {
  auto backend = device();
  for (const DType dtype : types) {
    for (const auto& [rows, columns] : {std::pair<uint64_t, uint64_t>{70, 280}, {33, 77}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (const size_t n : {1, 9, 17, 70, 200}) {
        SCOPED_TRACE(format_text(name_of(dtype), " ", rows, " x ", columns, ", ", n, " rows"));
        const std::vector<float> x = random_floats(n * columns, 2);
        Operations on(*backend, config_of(columns, 8, {}, 0), n);
        on.begin(Precision::fast);
        const DevicePtr<float> product = on.put(std::vector<float>(n * rows, 1));
        on->linear(on.put(x), on.bind(weight), n, true, product);
        const std::vector<float> out = on.get(product, n * rows);
        for (const size_t i : {size_t{0}, n / 2, n - 1}) {
          std::vector<double> expected = weight.times(&x[i * columns]);
          for (double& value : expected) value += 1;
          expect_close(&out[i * rows], expected, tolerance(dtype));
        }
      }
    }
  }
}

// Types that a device does not name are multiplied as at `exact`, to the bit; those that it names are not.
TEST_P(FastOperations, ADeviceKnowsWhichProductsItRounds) {
  auto backend = device();
  const uint64_t rows = 70, columns = 280, n = 200;
  for (const DType dtype : types) {
    SCOPED_TRACE(name_of(dtype));
    const RandomMatrix weight(dtype, rows, columns, 1);
    const std::vector<float> x = random_floats(n * columns, 2);
    auto product = [&](Precision precision) {
      Operations on(*backend, config_of(columns, 8, {}, 0), n);
      on.begin(precision);
      const DevicePtr<float> out = on.put(std::vector<float>(n * rows));
      on->linear(on.put(x), on.bind(weight), n, false, out);
      return on.get(out, n * rows);
    };
    const bool rounds = (backend->quantized_dtypes() >> static_cast<uint32_t>(dtype) & 1) != 0;
    EXPECT_EQ(rounds, product(Precision::exact) != product(Precision::fast));
  }
}

double silu(double x) { return x / (1 + std::exp(-x)); }

// Four experts of one component, of which each token has one. Two have none; then one has all.
TEST_P(FastOperations, ExpertsOfEveryType) {
  const uint64_t h = 72, width = 40, n_experts = 4;
  const RouterShape shape{
      .granularity_inter = 4, .expansion_inter = 1, .granularity_output = 1, .expansion_output = 1, .top_inter = 1};
  auto backend = device();
  for (const DType dtype : types) {
    std::vector<RandomMatrix> gates, ups, downs;
    for (uint32_t e = 0; e < n_experts; e++) {
      gates.emplace_back(dtype, width, h, 3 * e, 0.2f), ups.emplace_back(dtype, width, h, 3 * e + 1, 0.2f);
      downs.emplace_back(dtype, h, width, 3 * e + 2, 0.2f);
    }
    for (const auto& [n, n_used] : {std::pair<size_t, size_t>{3, 2}, {20, 2}, {90, 1}}) {
      SCOPED_TRACE(format_text(name_of(dtype), ", ", n, " rows"));
      const std::vector<float> x = random_floats(n * h, 9), weights(n, 0.7f);
      std::vector<int32_t> chosen(n);
      for (size_t i = 0; i < n; i++) chosen[i] = static_cast<int32_t>(i % n_used + 1);
      Operations on(*backend, config_of(h, 8, shape, width), n);
      on.begin(Precision::fast);
      std::vector<FfnWeights> experts;
      for (size_t e = 0; e < n_experts; e++) experts.push_back({on.bind(gates[e]), on.bind(ups[e]), on.bind(downs[e])});
      std::vector<uint32_t> all(n_experts);
      std::iota(all.begin(), all.end(), 0u);
      const DevicePtr<float> place = on.put(std::vector<float>(n * h));
      on->moe_ffn(on.put(x), experts, all, shape, {{}, on.put(chosen), on.put(weights), {}}, n, false, place);
      const std::vector<float> out = on.get(place, n * h);
      for (const size_t i : {size_t{0}, n / 2, n - 1}) {
        const auto e = static_cast<size_t>(chosen[i]);
        const std::vector<double> gate = gates[e].times(&x[i * h]), up = ups[e].times(&x[i * h]);
        std::vector<float> activated(width);
        for (size_t c = 0; c < width; c++) activated[c] = float(silu(gate[c]) * up[c]);
        std::vector<double> expected = downs[e].times(activated.data());
        for (double& value : expected) value *= double(weights[i]);
        expect_close(&out[i * h], expected, 2 * tolerance(dtype));
      }
    }
  }
}

}  // namespace
}  // namespace finermoe
