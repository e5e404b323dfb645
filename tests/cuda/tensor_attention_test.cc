// Attention of many rows at `fast`, on tensor cores: against arithmetic in double on what was rounded to BF16, with
// heads and caches of every kind. On the emulated device.
#include "../backend/support.h"
#include "base/blocks.h"
#include "cuda/kernels.h"
#include "emulated_driver.h"

namespace finermoe {
namespace {

float rounded(float x) { return bf16_to_float(float_to_bf16(x)); }

// A vector as a cache of some type has it, and what that means.
std::vector<std::byte> store(std::vector<float>& values, DType dtype) {
  const uint64_t n_blocks = blocks_of(values.size());
  std::vector<std::byte> bytes(dtype == DType::q8 ? n_blocks * (2 + block_columns) : values.size() * size_of(dtype));
  for (size_t i = 0; i < values.size(); i++) {
    if (dtype == DType::q8) {
      const uint16_t scale = float_to_f16(0.02f);
      const auto code = static_cast<int8_t>(std::clamp(std::lround(values[i] / f16_to_float(scale)), -127L, 127L));
      std::memcpy(&bytes[i / block_columns * 2], &scale, 2);
      bytes[n_blocks * 2 + i] = static_cast<std::byte>(code);
      values[i] = f16_to_float(scale) * static_cast<float>(code);
      continue;
    }
    const uint16_t half = dtype == DType::f16 ? float_to_f16(values[i]) : float_to_bf16(values[i]);
    if (dtype != DType::f32) values[i] = dtype == DType::f16 ? f16_to_float(half) : bf16_to_float(half);
    std::memcpy(&bytes[i * size_of(dtype)], dtype == DType::f32 ? static_cast<const void*>(&values[i]) : &half,
                size_of(dtype));
  }
  return bytes;
}

// One session's cache, two key-value heads, and queries of its last positions.
struct Case {
  uint64_t d, group;  // query heads of a key-value head
  DType dtype;
  uint32_t n_positions, n;
  uint64_t window;
};
class TensorAttention : public testing::Test {
 protected:
  static constexpr uint64_t n_kv_heads = 2;

  void SetUp() override {
    if (!runs_fibers) GTEST_SKIP() << "this sanitizer does not run the emulated device";
  }
  void TearDown() override { emulated::settings() = {}; }

  // `wrong`: a position whose value is not finite.
  std::vector<float> run(const Case& of, int wrong = -1, Precision precision = Precision::fast) {
    auto backend = emulated_cuda();
    auto cache = backend->make_kv_cache({1, n_kv_heads, of.d, of.n_positions, of.dtype}, no_limit(), "a test");
    EXPECT_TRUE(cache.ok());
    vectors_.clear();
    for (uint32_t head = 0; head < 2 * n_kv_heads; head++) {
      for (uint32_t p = 0; p < of.n_positions; p++) {
        std::vector<float> vector = random_floats(of.d, 1000 * head + p, head < n_kv_heads ? 0.5f : 1);
        if (head >= n_kv_heads && static_cast<int>(p) == wrong) vector[of.d - 1] = INFINITY;
        EXPECT_TRUE((*cache)->write(head, p, 1, store(vector, of.dtype)).ok());
        vectors_.push_back(std::move(vector));
      }
    }
    const uint64_t n_heads = n_kv_heads * of.group;
    queries_ = random_floats(of.n * n_heads * of.d, 5);
    Config config = config_of(8, 8, {}, 0, of.d);
    config.n_heads = n_heads, config.n_kv_heads = n_kv_heads;
    std::vector<uint32_t> positions(of.n);
    for (uint32_t i = 0; i < of.n; i++) positions[i] = of.n_positions - of.n + i;
    const std::vector<int32_t> tokens(of.n);
    const std::vector<uint32_t> sessions(of.n);
    KvCache* const of_session = cache->get();
    Operations on(*backend, config, of.n);
    on.begin({tokens, positions, sessions, {&of_session, 1}}, precision);
    const DevicePtr<float> out = on.put(std::vector<float>(queries_.size()));
    on->attention(on.put(queries_), {8, n_heads, n_kv_heads, of.d, of.window}, 0, out);
    return on.get(out, queries_.size());
  }
  // Of one row's query head.
  std::vector<double> expected(const Case& of, uint32_t row, uint64_t head) const {
    const uint32_t position = of.n_positions - of.n + row;
    const float* const query = &queries_[(row * n_kv_heads * of.group + head) * of.d];
    const uint64_t kv_head = head / of.group;
    std::vector<double> out(of.d);
    double total = 0;
    for (uint32_t p = 0; p <= position; p++) {
      if (of.window != 0 && p + of.window <= position) continue;
      const std::vector<float>& key = vectors_[kv_head * of.n_positions + p];
      const std::vector<float>& value = vectors_[(n_kv_heads + kv_head) * of.n_positions + p];
      double score = 0;
      for (uint64_t c = 0; c < of.d; c++) score += double(rounded(query[c])) * double(rounded(key[c]));
      const double probability = std::exp(score / std::sqrt(double(of.d)));
      total += probability;
      for (uint64_t c = 0; c < of.d; c++) out[c] += probability * double(rounded(value[c]));
    }
    for (double& value : out) value /= total;
    return out;
  }

 private:
  std::vector<std::vector<float>> vectors_;  // [heads][positions]
  std::vector<float> queries_;
};

// Heads that fill a kernel's columns and that do not, groups that share a block and that take several, several tiles.
TEST_F(TensorAttention, HeadsAndCachesOfEveryKind) {
  for (const Case& of : {Case{64, 3, DType::f32, 150, 50, 0},
                         {64, 1, DType::q8, 90, 90, 0},
                         {128, 4, DType::bf16, 140, 40, 0},
                         {128, 2, DType::f16, 130, 33, 70},
                         {80, 2, DType::q8, 70, 33, 20},
                         {36, 2, DType::f16, 70, 33, 1},
                         {12, 70, DType::f32, 40, 33, 0},
                         {256, 2, DType::f32, 70, 33, 0},
                         {24, 2, DType::f32, 70, 33, 0},
                         {40, 2, DType::f16, 70, 33, 0},
                         {200, 2, DType::q8, 70, 33, 30}}) {
    SCOPED_TRACE(format_text(of.d, " columns, ", name_of(of.dtype), ", window ", of.window));
    const std::vector<float> out = run(of);
    const uint64_t n_heads = n_kv_heads * of.group;
    for (const uint32_t row : {0u, of.n / 2, of.n - 1}) {
      for (const uint64_t head : {uint64_t{0}, of.group, n_heads - 1}) {
        expect_close(&out[(row * n_heads + head) * of.d], expected(of, row, head), 3e-3);  // rounded probabilities
      }
    }
  }
}

TEST_F(TensorAttention, WhatIsNotFiniteIsSeenByLaterRowsAlone) {
  // Of 24 columns the kernel has 32: what stands behind a vector is the next one.
  for (const Case& of : {Case{64, 2, DType::f32, 100, 40, 20}, {24, 2, DType::f32, 100, 40, 20}}) {
    SCOPED_TRACE(of.d);
    const std::vector<float> right = run(of), out = run(of, 70);
    const size_t row_size = 2 * n_kv_heads * of.d;
    for (uint32_t row = 0; row < of.n; row++) {
      const uint32_t position = of.n_positions - of.n + row;
      const bool sees_it = position >= 70 && position < 70 + of.window;
      const auto begin = out.begin() + static_cast<ptrdiff_t>(row * row_size);
      EXPECT_EQ(sees_it, !std::isfinite(*(begin + static_cast<ptrdiff_t>(of.d) - 1))) << row;
      if (!sees_it) {
        EXPECT_TRUE(std::equal(begin, begin + static_cast<ptrdiff_t>(row_size), &right[row * row_size])) << row;
      }
    }
  }
}

// Up to 32 rows, at `exact`, and on a device without such tensor cores, nothing is rounded.
TEST_F(TensorAttention, IsNotUsedWhereNothingMayBeRounded) {
  const Case many{64, 2, DType::f32, 50, 33, 0}, few{64, 2, DType::f32, 50, 32, 0};
  const std::vector<float> exact = run(many, -1, Precision::exact);
  EXPECT_NE(exact, run(many));
  EXPECT_EQ(run(few, -1, Precision::exact), run(few));
  emulated::settings().compute_major = 7;
  emulated::settings().compute_minor = 5;
  EXPECT_EQ(exact, run(many));
}

TEST_F(TensorAttention, TheOrderOfThreadsMakesNoDifference) {
  std::vector<std::vector<float>> found;
  for (const emulated::Order order :
       {emulated::Order::forwards, emulated::Order::backwards, emulated::Order::interleaved}) {
    emulated::settings().order = order;
    found.push_back(run({64, 3, DType::q8, 80, 50, 0}));
  }
  EXPECT_EQ(found[0], found[1]);
  EXPECT_EQ(found[0], found[2]);
}

}  // namespace
}  // namespace finermoe
