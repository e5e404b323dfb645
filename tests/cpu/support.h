// What the tests of the CPU backend share: the instruction sets of this machine, random matrices of any type at any
// address, and the arithmetic of the specification in double precision.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "cpu/cpu_backend.h"

namespace finermoe {

inline std::string isa_name(int32_t isa) {
  return isa == FINERMOE_ISA_PORTABLE ? "portable" : isa == FINERMOE_ISA_AVX2 ? "avx2" : "avx512";
}

inline std::shared_ptr<Backend> backend_of(int32_t isa, uint32_t n_threads) {
  auto backend = open_backend({isa, std::make_shared<ThreadPool>(n_threads)});
  return backend.ok() ? *backend : nullptr;
}

// A test with one instruction set as its parameter; skipped where the machine lacks it.
class EveryIsa : public testing::TestWithParam<int32_t> {
 protected:
  void SetUp() override {
    if (!resolve_isa(GetParam()).ok()) GTEST_SKIP() << "this machine lacks " << isa_name(GetParam());
  }
};
#define FINERMOE_FOR_EVERY_ISA(suite)                                                                                  \
  INSTANTIATE_TEST_SUITE_P(Isa, suite, testing::Values(FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512), \
                           [](const testing::TestParamInfo<int32_t>& isa) { return isa_name(isa.param); })

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

// A matrix [rows, columns] in a storage type, two bytes off any larger alignment, as a mapped file may have it.
class RandomMatrix {
 public:
  RandomMatrix() = default;
  RandomMatrix(DType dtype, uint64_t rows, uint64_t columns, uint32_t seed, float scale = 1)
      : dtype_(dtype), rows_(rows), columns_(columns), bytes_(rows * columns * size_of(dtype) + 2) {
    for (float value : random_floats(rows * columns, seed, scale)) {
      const uint16_t half = dtype == DType::bf16 ? float_to_bf16(value) : float_to_f16(value);
      values_.push_back(dtype == DType::f32 ? value : dtype == DType::bf16 ? bf16_to_float(half) : f16_to_float(half));
      std::memcpy(bytes_.data() + 2 + (values_.size() - 1) * size_of(dtype),
                  dtype == DType::f32 ? static_cast<const void*>(&value) : &half, size_of(dtype));
    }
  }
  WeightView view() const { return {bytes_.data() + 2, dtype_, rows_, columns_}; }
  WeightView vector() const { return {bytes_.data() + 2, dtype_, rows_ * columns_, 0}; }
  const std::vector<float>& values() const { return values_; }

  // W x for one vector.
  std::vector<double> times(const float* x) const {
    std::vector<double> out(rows_);
    for (uint64_t r = 0; r < rows_; r++) {
      for (uint64_t c = 0; c < columns_; c++) out[r] += double(values_[r * columns_ + c]) * double(x[c]);
    }
    return out;
  }

 private:
  DType dtype_ = DType::f32;
  uint64_t rows_ = 0, columns_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
};

// A configuration whose workspace is large enough for any test with these sizes.
inline Config config_of(uint64_t hidden, uint64_t width, const RouterShape& router, uint64_t expert_width,
                        uint64_t head_size = 16) {
  Config config;
  config.hidden_size = hidden;
  config.intermediate_size = config.shared_expert_width = width;
  config.n_heads = config.n_kv_heads = 1;
  config.head_size = head_size;
  config.router = router;
  config.expert_width = expert_width;
  return config;
}

inline std::unique_ptr<Workspace> workspace_of(const Backend& backend, const Config& config, size_t n_rows) {
  auto workspace = backend.make_workspace(config, n_rows, 0, std::make_shared<MemoryAccount>(0));
  EXPECT_TRUE(workspace.ok()) << workspace.status().message();
  return std::move(*workspace);
}

// Every element within `tolerance` of the expected one, relative to the largest of all.
template <class Expected>
void expect_close(const float* found, const Expected& expected, double tolerance) {
  double largest = 0;
  for (auto value : expected) largest = std::max(largest, std::abs(double(value)));
  for (size_t i = 0; i < expected.size(); i++) {
    ASSERT_NEAR(found[i], expected[i], tolerance * largest) << "element " << i << " of " << expected.size();
  }
}

}  // namespace finermoe
