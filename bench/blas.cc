// Speed of products by OpenBLAS beside that of the portable kernels: Gop/s of both and the ratio, for each type of the
// weights and number of vectors, median of rounds in which both run in turn. OPENBLAS_CORETYPE chooses the processor
// that OpenBLAS computes for, such as Sandybridge.
//   blas-speed [THREADS [CLOCK [LIBRARY]]]
//     CLOCK  wall, or cpu: processor time per thread, for a machine that is busy with other work
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "clock.h"
#include "cpu/cpu_device.h"

namespace finermoe {
namespace {

constexpr int n_rounds = 3;
constexpr uint64_t rows = 4096, columns = 1536;

using bench::Clock, bench::median;

class Products {
 public:
  Products(std::shared_ptr<const Blas> blas, std::shared_ptr<ThreadPool> pool)
      : backend_(portable::kernels, std::move(pool), std::move(blas)) {}

  // Gop/s of all threads; a multiply-add is two operations.
  double rate(const WeightView& weight, Precision precision, size_t n, const Clock& clock) const {
    Config config;
    config.vocab_size = 1;
    config.hidden_size = columns;
    const auto step = std::move(*backend_.make_step(config, n, 1, std::make_shared<MemoryAccount>(0)));
    (void)step->begin({}, precision);
    const std::vector<float> x(n * columns, 0.5f);
    std::vector<float> out(n * rows);
    const auto multiply = [&] {
      step->linear(DevicePtr<const float>(x.data()), weight, n, false, DevicePtr(out.data()));
    };
    multiply();
    const double operations = 2.0 * double(rows * columns * n);
    const size_t n_calls = std::max<size_t>(1, size_t(1e9 / operations));
    const double begin = clock.now();
    for (size_t i = 0; i < n_calls; i++) multiply();
    const double seconds = clock.now() - begin;
    step->end();
    return operations * double(n_calls) / seconds / 1e9;
  }

 private:
  const CpuBackend backend_;
};

int run(const Clock& clock, const char* library) {
  const auto blas = Blas::open(library);
  if (!blas.ok()) {
    std::fprintf(stderr, "%s\n", blas.status().message().c_str());
    return 1;
  }
  std::printf("%s%s\n", (*blas)->description().c_str(), (*blas)->calls_at_once() == 1 ? ", one call at a time" : "");
  std::printf("type  precision  vectors  kernels  OpenBLAS  ratio\n");
  const auto pool = std::make_shared<ThreadPool>(clock.n_threads);
  const Products kernels(nullptr, pool), with_blas(*blas, pool);
  for (const DType dtype : {DType::f32, DType::bf16, DType::f16, DType::q8, DType::q4}) {
    std::vector<std::byte> bytes(matrix_bytes(dtype, rows, columns));
    std::minstd_rand generator(1);
    for (std::byte& byte : bytes) byte = std::byte(generator() & 0x3f);  // small numbers, of any type
    const WeightView weight{DevicePtr<const std::byte>(bytes.data()), dtype, rows, columns};
    for (const Precision precision : {Precision::exact, Precision::fast}) {
      if (precision == Precision::fast && !is_blocked(dtype)) continue;  // the same products
      for (const size_t n : {1, 4, 8, 16, 32, 64, 512}) {
        std::vector<double> own, others, ratios;
        for (int round = 0; round < n_rounds; round++) {
          own.push_back(kernels.rate(weight, precision, n, clock));
          others.push_back(with_blas.rate(weight, precision, n, clock));
          ratios.push_back(others.back() / own.back());
        }
        std::printf("%-4s  %-9s  %7zu  %7.1f  %8.1f  %5.2f\n", name_of(dtype),
                    precision == Precision::fast ? "fast" : "exact", n, median(own), median(others), median(ratios));
        std::fflush(stdout);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace finermoe

int main(int argc, char** argv) {
  const uint32_t n_threads = argc > 1 ? uint32_t(std::atoi(argv[1])) : finermoe::available_processors();
  return finermoe::run({argc <= 2 || std::strcmp(argv[2], "cpu") != 0, n_threads}, argc > 3 ? argv[3] : "");
}
