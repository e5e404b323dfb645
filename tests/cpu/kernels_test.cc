// Each kernel of each instruction set against plain arithmetic in double precision.
#include <array>
#include <limits>

#include "support.h"

namespace finermoe {
namespace {

const Kernels& kernels_of(int32_t isa) {
#if defined(__x86_64__)
  if (isa == FINERMOE_ISA_AVX512) return avx512::kernels;
  if (isa == FINERMOE_ISA_AVX2) return avx2::kernels;
#endif
  (void)isa;
  return portable::kernels;
}

constexpr std::array all_dtypes = {DType::f32, DType::f16, DType::bf16};

class KernelsTest : public EveryIsa {
 protected:
  const Kernels& kernels() const { return kernels_of(GetParam()); }
};
FINERMOE_FOR_EVERY_ISA(KernelsTest);

struct Vectors {
  std::vector<float> values;
  std::vector<float*> rows;
  Vectors(std::vector<float> v, size_t n, size_t width) : values(std::move(v)) {
    for (size_t i = 0; i < n; i++) rows.push_back(values.data() + i * width);
  }
};

std::vector<float> matmul(const Kernels& kernels, const RandomMatrix& weight, Vectors& x, size_t n,
                          const std::vector<float>* start) {
  const WeightView w = weight.view();
  Vectors out(start != nullptr ? *start : std::vector<float>(n * w.rows, NAN), n, w.rows);
  std::vector<float> scratch(matmul_scratch_floats(n));
  kernels.matmul(
      {x.rows.data(), out.rows.data(), n, w.data, w.dtype, w.rows, w.columns, start != nullptr, scratch.data()});
  return out.values;
}

TEST_P(KernelsTest, MatmulOfEveryTypeAndOddSize) {
  for (DType dtype : all_dtypes) {
    for (auto [rows, columns] : {std::pair{1, 1}, {3, 7}, {37, 24}, {64, 36}, {33, 280}, {5, 801}, {70, 387}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (size_t n : {1, 2, 3, 4, 5, 6, 7, 8, 11, 13, 16, 17, 19, 24, 31, 40, 49, 57, 130}) {
        SCOPED_TRACE(cat(name_of(dtype), " ", rows, " x ", columns, ", ", n, " vectors"));
        Vectors x(random_floats(n * columns, 2), n, columns);
        const std::vector<float> start = random_floats(n * rows, 3);
        std::vector<double> expected;
        for (float* row : x.rows) {
          const std::vector<double> product = weight.times(row);
          expected.insert(expected.end(), product.begin(), product.end());
        }
        expect_close(matmul(kernels(), weight, x, n, nullptr).data(), expected, 2e-6);
        for (size_t i = 0; i < expected.size(); i++) expected[i] += double(start[i]);
        expect_close(matmul(kernels(), weight, x, n, &start).data(), expected, 2e-6);
      }
    }
  }
}

// What makes results independent of the division into tasks: an output does not know its neighbours.
TEST_P(KernelsTest, MatmulGivesAnOutputTheSameBitsInAnyBlock) {
  const size_t rows = 75, columns = 397;
  const RandomMatrix weight(DType::bf16, rows, columns, 4);
  for (size_t n : {1, 5, 16, 17, 50}) {
    Vectors x(random_floats(n * columns, 5), n, columns);
    const std::vector<float> whole = matmul(kernels(), weight, x, n, nullptr);
    for (size_t first : {1, 13, 32, 70}) {
      std::vector<float> scratch(matmul_scratch_floats(n));
      Vectors part(std::vector<float>(n * (rows - first)), n, rows - first);
      const WeightView w = rows_of(weight.view(), first, rows - first);
      kernels().matmul({x.rows.data(), part.rows.data(), n, w.data, w.dtype, w.rows, w.columns, false, scratch.data()});
      for (size_t i = 0; i < n; i++) {
        ASSERT_EQ(0, std::memcmp(part.rows[i], whole.data() + i * rows + first, (rows - first) * sizeof(float)))
            << n << " vectors, from row " << first;
      }
    }
  }
}

TEST_P(KernelsTest, WidenAndNarrowAreThePortableConversions) {
  std::vector<uint16_t> all(65536);
  for (size_t i = 0; i < all.size(); i++) all[i] = static_cast<uint16_t>(i);
  for (DType dtype : {DType::f16, DType::bf16}) {
    std::vector<float> wide(all.size());
    kernels().widen(all.data(), dtype, all.size(), wide.data());
    for (size_t i = 0; i < all.size(); i++) {
      const float expected = dtype == DType::bf16 ? bf16_to_float(all[i]) : f16_to_float(all[i]);
      if (std::isnan(expected)) {
        ASSERT_TRUE(std::isnan(wide[i])) << i;
      } else {
        ASSERT_EQ(std::bit_cast<uint32_t>(expected), std::bit_cast<uint32_t>(wide[i])) << i;
      }
    }
    // Values between the representable ones, ties among them, subnormals, infinities and NaN.
    std::vector<float> values = random_floats(1003, 6, 100);
    for (float exponent = -150; exponent < 128; exponent++) values.push_back(std::exp2(exponent) * 1.00390625f);
    values.insert(values.end(), {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 65519.0f, 65520.0f, 1.0009765625f / 2,
                                 std::numeric_limits<float>::max(), std::numeric_limits<float>::denorm_min()});
    std::vector<uint16_t> narrow(values.size());
    kernels().narrow(values.data(), dtype, values.size(), narrow.data());
    for (size_t i = 0; i < values.size(); i++) {
      const uint16_t expected = dtype == DType::bf16 ? float_to_bf16(values[i]) : float_to_f16(values[i]);
      ASSERT_EQ(expected, narrow[i]) << name_of(dtype) << " of " << values[i];
    }
  }
}

TEST_P(KernelsTest, RmsNorm) {
  for (DType dtype : all_dtypes) {
    for (size_t n : {1, 7, 36, 801, 1536}) {
      const RandomMatrix weight(dtype, n, 1, 7);
      std::vector<float> x = random_floats(n, 8, 3);
      double squares = 0;
      for (float value : x) squares += double(value) * double(value);
      std::vector<double> expected(n);
      for (size_t i = 0; i < n; i++) {
        expected[i] = double(x[i]) / std::sqrt(squares / double(n) + 1e-6) * double(weight.values()[i]);
      }
      kernels().rms_norm(x.data(), weight.view().data, dtype, 1e-6f, n, x.data());  // in place
      expect_close(x.data(), expected, 1e-6);
    }
  }
}

TEST_P(KernelsTest, SiluMultiply) {
  for (size_t n : {1, 15, 280, 2001}) {
    std::vector<float> gate = random_floats(n, 9, 20), up = random_floats(n, 10);
    gate[0] = -200;  // e^200 is beyond float32
    std::vector<double> expected(n);
    for (size_t i = 0; i < n; i++) {
      expected[i] = 0.3 * double(gate[i]) / (1 + std::exp(-double(gate[i]))) * double(up[i]);
    }
    kernels().silu_multiply(gate.data(), up.data(), 0.3f, n);
    for (size_t i = 0; i < n; i++) ASSERT_NEAR(gate[i], expected[i], 1e-6 * std::abs(expected[i]) + 1e-30);
  }
  std::vector<float> gate = {NAN}, up = {1};
  kernels().silu_multiply(gate.data(), up.data(), 1, 1);
  EXPECT_TRUE(std::isnan(gate[0]));
}

TEST_P(KernelsTest, Rotate) {
  for (size_t half : {1, 4, 32, 37, 64}) {
    std::vector<float> x = random_floats(2 * half, 11), cos(half), sin(half);
    std::vector<double> expected(2 * half);
    for (size_t i = 0; i < half; i++) {
      const double angle = 0.37 * double(i + 1);
      cos[i] = float(std::cos(angle)), sin[i] = float(std::sin(angle));
      expected[i] = double(x[i]) * std::cos(angle) - double(x[half + i]) * std::sin(angle);
      expected[half + i] = double(x[half + i]) * std::cos(angle) + double(x[i]) * std::sin(angle);
    }
    kernels().rotate(x.data(), cos.data(), sin.data(), half);
    expect_close(x.data(), expected, 1e-6);
  }
}

TEST_P(KernelsTest, Attention) {
  for (DType dtype : all_dtypes) {
    for (auto [n, d, first] : {std::tuple{1, 8, 0}, {1, 128, 300}, {5, 36, 60}, {48, 64, 100}, {17, 2, 200}}) {
      SCOPED_TRACE(cat(name_of(dtype), " ", n, " queries of ", d, " from position ", first));
      const size_t positions = size_t(first + n);
      const RandomMatrix keys(dtype, positions, d, 12, 0.8f), values(dtype, positions, d, 13);
      Vectors q(random_floats(n * d, 14, 3), n, d), out(std::vector<float>(n * d, NAN), n, d);
      std::vector<size_t> visible;
      std::vector<double> expected(n * d);
      for (int i = 0; i < n; i++) {
        visible.push_back(size_t(first + i + 1));
        std::vector<double> scores = keys.times(q.rows[i]);
        double total = 0, largest = -1e300;
        for (size_t p = 0; p < visible[i]; p++) largest = std::max(largest, scores[p] / std::sqrt(d));
        for (size_t p = 0; p < visible[i]; p++) total += std::exp(scores[p] / std::sqrt(d) - largest);
        for (size_t p = 0; p < visible[i]; p++) {
          const double share = std::exp(scores[p] / std::sqrt(d) - largest) / total;
          for (int c = 0; c < d; c++) expected[i * d + c] += share * double(values.values()[p * d + c]);
        }
      }
      std::vector<float> scratch(attention_scratch_floats(d));
      kernels().attention({q.rows.data(), out.rows.data(), visible.data(), size_t(n), size_t(d), keys.view().data,
                           values.view().data, dtype, float(1 / std::sqrt(d)), scratch.data()});
      expect_close(out.values.data(), expected, 5e-6);
    }
  }
}

}  // namespace
}  // namespace finermoe
