// Large products at `fast` by cuBLASLt, over an emulated one; without it, or where it refuses, by our own kernels.
#include <cstdlib>

#include "../backend/support.h"
#include "cuda/blas_products.h"
#include "emulated_driver.h"

namespace finermoe {
namespace {

class CudaBlas : public testing::Test {
 protected:
  void SetUp() override {
    if (!runs_fibers) GTEST_SKIP() << "this sanitizer does not run the emulated device";
    emulated::settings().has_blas = true;
  }
  void TearDown() override {
    emulated::settings() = {};
    EXPECT_EQ(0, emulated::n_blas_objects());
  }
  // How many products it computes meanwhile.
  template <class Call>
  static int count(const Call& call) {
    const int before = emulated::n_blas_products();
    call();
    return emulated::n_blas_products() - before;
  }
};

// As large as is left to cuBLASLt, and no larger.
constexpr uint64_t rows = 2048, columns = 512, n = cuda::least_blas_vectors;
static_assert(rows * columns == cuda::least_blas_elements);

struct Multiplication {
  DType dtype = DType::bf16;
  uint64_t columns = finermoe::columns;
  size_t n = finermoe::n;
  Precision precision = Precision::fast;
};
std::vector<float> multiply(Operations& on, const Multiplication& of, bool accumulate = false) {
  const RandomMatrix weight(of.dtype, rows, of.columns, 1);
  const std::vector<float> x = random_floats(of.n * of.columns, 2);
  on.begin(of.precision);
  const DevicePtr<float> out = on.put(std::vector<float>(of.n * rows, 1));
  on->linear(on.put(x), on.bind(weight), of.n, accumulate, out);
  return on.get(out, of.n * rows);
}
std::vector<float> multiply(const Multiplication& of, bool accumulate = false) {
  auto backend = emulated_cuda();
  Operations on(*backend, config_of(2048, 8, {}, 0), of.n);
  return multiply(on, of, accumulate);
}

TEST_F(CudaBlas, LargeProductsAreThoseOfOurOwnKernels) {
  for (const DType dtype : {DType::bf16, DType::f16}) {
    for (const bool accumulate : {false, true}) {
      std::vector<float> found;
      EXPECT_EQ(1, count([&] { found = multiply({dtype}, accumulate); }));
      emulated::settings().has_blas = false;
      std::vector<float> own;
      EXPECT_EQ(0, count([&] { own = multiply({dtype}, accumulate); }));
      emulated::settings().has_blas = true;
      expect_close(found.data(), own, 2e-6);
    }
  }
}

TEST_F(CudaBlas, OthersAreNotLeftToIt) {
  for (const Multiplication& of : {Multiplication{.dtype = DType::q8},
                                   {.dtype = DType::f32},
                                   {.columns = columns - 8},
                                   {.columns = columns + 4},
                                   {.n = n - 1},
                                   {.precision = Precision::exact}}) {
    EXPECT_EQ(0, count([&] { multiply(of); }));
  }
}

TEST_F(CudaBlas, WhatItRefusesOurOwnKernelsCompute) {
  emulated::settings().product_answers = 15;
  std::vector<float> refused;
  EXPECT_EQ(0, count([&] { refused = multiply({}, true); }));
  emulated::settings().has_blas = false;
  EXPECT_EQ(multiply({}, true), refused);
}

// One heuristic for each shape, one handle for each backend.
TEST_F(CudaBlas, ShapesAreAskedForOnce) {
  auto backend = emulated_cuda();
  Operations on(*backend, config_of(2048, 8, {}, 0), n + 1);
  multiply(on, {});
  const int after_one = emulated::n_blas_objects();
  multiply(on, {}, true);
  EXPECT_EQ(after_one, emulated::n_blas_objects());
  multiply(on, {.n = n + 1});
  EXPECT_EQ(after_one + 4, emulated::n_blas_objects());  // a product and its three layouts
  {
    Operations others(*backend, config_of(2048, 8, {}, 0), n);
    multiply(others, {});
    EXPECT_EQ(after_one + 8, emulated::n_blas_objects());
  }
  EXPECT_EQ(after_one + 4, emulated::n_blas_objects());
}

TEST_F(CudaBlas, AllThreeProjectionsOfAnFfnAreLeftToIt) {
  const uint64_t h = 512, width = 2056;
  const RandomMatrix gate(DType::bf16, width, h, 1, 0.05f), up(DType::bf16, width, h, 2, 0.05f);
  const RandomMatrix down(DType::bf16, h, width, 3, 0.05f), scale(DType::bf16, 1, h, 4, 0.05f);
  const auto run = [&] {
    auto backend = emulated_cuda();
    Operations on(*backend, config_of(h, width, {}, 0), n);
    on.begin(Precision::fast);
    const DevicePtr<float> out = on.put(std::vector<float>(n * h, 2));
    on->gated_ffn(on.put(random_floats(n * h, 5)), {on.bind(gate), on.bind(up), on.bind(down)}, on.bind(scale), n, out);
    return on.get(out, n * h);
  };
  std::vector<float> found;
  EXPECT_EQ(3, count([&] { found = run(); }));
  emulated::settings().product_answers = 15;
  expect_close(found.data(), run(), 1e-4);  // a number that is rounded the other way
  emulated::settings().has_blas = false;
  expect_close(found.data(), run(), 1e-4);
}

TEST(CudaBlasLibrary, OneThatIsNotThereIsNone) {
  EXPECT_EQ(nullptr, cuda::load_blas({"libcublasLt-that-is-not-there.so.13"}));
  EXPECT_EQ(nullptr, cuda::load_blas({"libm.so.6"}));  // no such functions
}

}  // namespace
}  // namespace finermoe
