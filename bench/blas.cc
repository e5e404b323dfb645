// Speed of products by OpenBLAS beside that of the portable kernels: Gop/s of both and the ratio, for each type of the
// weights and number of vectors, median of rounds in which both run in turn. CPU time per thread, for a machine that is
// busy with other work. OPENBLAS_CORETYPE chooses the processor that OpenBLAS computes for, such as Sandybridge.
//   blas-speed [THREADS [LIBRARY]]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "base/blocks.h"
#include "cpu/cpu_device.h"

namespace finermoe {
namespace {

constexpr int n_rounds = 5;
constexpr uint64_t rows = 4096, columns = 1536;

double cpu_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + long(values.size() / 2), values.end());
  return values[values.size() / 2];
}

class Products {
 public:
  Products(std::shared_ptr<const Blas> blas, uint32_t n_threads)
      : backend_(portable::kernels, std::make_shared<ThreadPool>(n_threads), std::move(blas)) {}

  // Gop/s of a thread; a multiply-add is two operations.
  double rate(const WeightView& weight, Precision precision, size_t n, uint32_t n_threads) const {
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
    const size_t n_calls = std::max<size_t>(1, size_t(2e9 / operations));
    const double begin = cpu_seconds();
    for (size_t i = 0; i < n_calls; i++) multiply();
    const double seconds = (cpu_seconds() - begin) / n_threads;
    step->end();
    return operations * double(n_calls) / seconds / n_threads / 1e9;
  }

 private:
  const CpuBackend backend_;
};

int run(uint32_t n_threads, const char* library) {
  const auto blas = Blas::open(library);
  if (!blas.ok()) {
    std::fprintf(stderr, "%s\n", blas.status().message().c_str());
    return 1;
  }
  std::printf("%s%s\n", (*blas)->description().c_str(), (*blas)->is_serialised() ? ", one call at a time" : "");
  std::printf("type  precision  vectors  kernels  OpenBLAS  ratio\n");
  const Products kernels(nullptr, n_threads), with_blas(*blas, n_threads);
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
          own.push_back(kernels.rate(weight, precision, n, n_threads));
          others.push_back(with_blas.rate(weight, precision, n, n_threads));
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
  return finermoe::run(argc > 1 ? uint32_t(std::atoi(argv[1])) : 1, argc > 2 ? argv[2] : "");
}
