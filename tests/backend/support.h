// What tests of devices share: every device and instruction set of this machine, random matrices of any type at any
// address, operations on arrays that come from the host, and the arithmetic of docs/finermoe-layer.md in double.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <ostream>
#include <random>
#include <string>
#include <vector>

#include "../support/sanitizers.h"
#include "backend/backend.h"
#include "base/cpu_features.h"
#include "cpu/cpu_device.h"
#include "deferred_device.h"
#include "emulated_device.h"
#include "placement/devices.h"

namespace finermoe {

#if defined(__x86_64__)
namespace avx2_vnni_evex {
extern const Kernels kernels;
}
#endif

struct KernelSet {
  const char* name;
  const Kernels& kernels;
  bool exists;  // on this machine
};
inline void PrintTo(const KernelSet& set, std::ostream* out) { *out << set.name; }

// Those of the processor family.
inline std::vector<KernelSet> kernel_sets() {
#if defined(__x86_64__)
  const CpuFeatures features = detect_cpu_features();
  return {{"portable", portable::kernels, true},
          {"avx2", avx2::kernels, features.avx2},
          {"avx2_vnni", avx2_vnni::kernels, features.avx_vnni},
          {"avx2_vnni_evex", avx2_vnni_evex::kernels, features.avx512},
          {"avx512", avx512::kernels, features.avx512},
          {"amx", amx::kernels, features.amx && request_amx()}};
#else
  return {{"portable", portable::kernels, true}};
#endif
}

// A device, with some number of threads where it has any.
struct DeviceCase {
  std::string name;
  bool exists;  // on this machine
  std::shared_ptr<Backend> (*open)(const KernelSet& set, uint32_t n_threads);
  KernelSet set;
  std::shared_ptr<const Device> (*device)();
  bool has_threads = true;
};
inline void PrintTo(const DeviceCase& device, std::ostream* out) { *out << device.name; }

// OpenBLAS as the system finds it, or why it cannot be used.
inline const Result<std::shared_ptr<const Blas>>& system_blas() {
  static const auto opened = Blas::open({});
  return opened;
}
inline bool has_blas() { return system_blas().status().code() != FINERMOE_ERROR_FILE_NOT_FOUND; }
// With the portable kernels, as on the processors where it is used.
inline std::shared_ptr<Backend> open_cpu_with_blas(const KernelSet& set, uint32_t n_threads) {
  EXPECT_TRUE(system_blas().ok()) << system_blas().status().message();
  return std::make_shared<CpuBackend>(set.kernels, std::make_shared<ThreadPool>(n_threads), *system_blas());
}

inline std::shared_ptr<Backend> open_cpu(const KernelSet& set, uint32_t n_threads) {
  return std::make_shared<CpuBackend>(set.kernels, std::make_shared<ThreadPool>(n_threads));
}
// All choices but the default ones.
inline std::shared_ptr<Backend> open_tuned_cpu(const KernelSet& set, uint32_t n_threads) {
  constexpr Tuning other = {.bf16_dots = false, .prefetch = 6144, .rows_side_by_side = true};
  return std::make_shared<CpuBackend>(set.kernels, std::make_shared<ThreadPool>(n_threads), nullptr, other);
}

inline std::shared_ptr<const Device> cpu_device_with_blas() { return cpu_device(*system_blas()); }

// The emulated GPU's fibers: one sanitizer does not know them, another makes them take minutes.
constexpr bool runs_fibers = !address_sanitizer && !thread_sanitizer;

// The device that `scripts/test --device` names; null without it.
inline std::shared_ptr<const Device> named_device() {
  const char *const name = std::getenv("FINERMOE_TEST_DEVICE"), *const module =
                                                                    std::getenv("FINERMOE_TEST_DEVICE_MODULE");
  if (name == nullptr || module == nullptr) return nullptr;
  const auto devices = list_devices({}, module);
  EXPECT_TRUE(devices.ok()) << devices.status().message();
  if (!devices.ok()) return nullptr;
  const auto device = find_device(*devices, name);
  EXPECT_TRUE(device.ok()) << device.status().message();
  return device.ok() ? *device : nullptr;
}
inline std::shared_ptr<Backend> open_named(const KernelSet&, uint32_t n_threads) {
  auto opened = named_device()->open({.pool = std::make_shared<ThreadPool>(n_threads)});
  EXPECT_TRUE(opened.ok()) << opened.status().message();
  return *opened;
}

// Every instruction set of the processor, with each tuning, the portable one with OpenBLAS, a device whose memory is
// not the host's, a GPU, emulated, and the named one.
inline std::vector<DeviceCase> device_cases() {
  std::vector<DeviceCase> cases;
  const auto cpu = [] { return cpu_device(); };
  for (const KernelSet& set : kernel_sets()) {
    cases.push_back({set.name, set.exists, open_cpu, set, cpu});
    if (&set.kernels == &portable::kernels) continue;  // has no choices
    cases.push_back({std::string(set.name) + "_tuned", set.exists, open_tuned_cpu, set, cpu});
  }
  const auto open_deferred = [](const KernelSet& set, uint32_t n_threads) {
    return deferred(open_cpu(set, n_threads));
  };
  const KernelSet portable_set{"portable", portable::kernels, true};
  cases.push_back({"blas", has_blas(), open_cpu_with_blas, portable_set, cpu_device_with_blas});
  cases.push_back({"deferred", true, open_deferred, portable_set, deferred_device});
  const auto open_emulated = [](const KernelSet&, uint32_t) { return emulated_cuda(); };
  cases.push_back({"cuda_emulated", runs_fibers, open_emulated, portable_set, emulated_cuda_device, false});
  if (named_device() != nullptr) cases.push_back({"named", true, open_named, portable_set, named_device, false});
  return cases;
}

// A test with a device as its parameter; skipped where the machine lacks it.
class EveryDevice : public testing::TestWithParam<DeviceCase> {
 protected:
  void SetUp() override {
    if (!GetParam().exists) GTEST_SKIP() << "this machine lacks " << GetParam().name;
  }
  std::shared_ptr<Backend> device(uint32_t n_threads = 2) const { return GetParam().open(GetParam().set, n_threads); }
  // Numbers of threads that must make no difference.
  std::vector<uint32_t> thread_counts() const {
    return GetParam().has_threads ? std::vector<uint32_t>{1, 2, 3, 8} : std::vector<uint32_t>{1, 2};
  }
};
#define FINERMOE_FOR_EVERY_DEVICE(suite)                                     \
  INSTANTIATE_TEST_SUITE_P(Device, suite, testing::ValuesIn(device_cases()), \
                           [](const testing::TestParamInfo<DeviceCase>& device) { return device.param.name; })

inline std::vector<float> random_floats(size_t n, uint32_t seed, float scale = 1) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> values(n);
  for (float& value : values) value = normal(generator);
  return values;
}

// A matrix [rows, columns] in a storage type, at an odd address, as a mapped file may have it.
class RandomMatrix {
 public:
  RandomMatrix() = default;
  RandomMatrix(DType dtype, uint64_t rows, uint64_t columns, uint32_t seed, float scale = 1)
      : dtype_(dtype), rows_(rows), columns_(columns), bytes_(matrix_bytes(dtype, rows, columns) + 1) {
    values_ = random_floats(rows * columns, seed, scale);
    if (is_blocked(dtype)) {
      store_blocks();
      return;
    }
    for (size_t i = 0; i < values_.size(); i++) {
      const uint16_t half = dtype == DType::bf16 ? float_to_bf16(values_[i]) : float_to_f16(values_[i]);
      if (dtype != DType::f32) values_[i] = dtype == DType::bf16 ? bf16_to_float(half) : f16_to_float(half);
      std::memcpy(bytes_.data() + 1 + i * size_of(dtype),
                  dtype == DType::f32 ? static_cast<const void*>(&values_[i]) : &half, size_of(dtype));
    }
  }
  // As a matrix, or as a vector.
  Tensor tensor() const {
    return {.name = "random", .dtype = dtype_, .rows = rows_, .columns = columns_, .data = bytes_.data() + 1};
  }
  Tensor vector() const {
    return {.name = "random", .dtype = dtype_, .rows = rows_ * columns_, .columns = 0, .data = bytes_.data() + 1};
  }
  // Where it is, for the CPU's kernels.
  WeightView view() const { return {DevicePtr<const std::byte>(bytes_.data() + 1), dtype_, rows_, columns_}; }
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
  // By the plainest rule: the largest magnitude of a block is 127 times its scale. What fills up the panels is garbage,
  // so that a kernel which reads it shows.
  void store_blocks() {
    std::mt19937 generator(99);
    for (std::byte& byte : bytes_) byte = std::byte(generator());
    for (uint64_t row = 0; row < rows_; row++) {
      for (uint64_t begin = 0; begin < columns_; begin += block_columns) {
        std::byte* block =
            bytes_.data() + 1 + (row / panel_rows * blocks_of(columns_) + begin / block_columns) * block_bytes(dtype_);
        store_row_of_block(block, row % panel_rows, &values_[row * columns_ + begin],
                           std::min<uint64_t>(block_columns, columns_ - begin));
      }
    }
  }
  void store_row_of_block(std::byte* block, size_t row, float* values, size_t n) {
    float top = 0;
    for (size_t c = 0; c < n; c++) top = std::max(top, std::fabs(values[c]));
    const uint16_t bits = float_to_f16(top / 127);
    const float scale = f16_to_float(bits);
    std::memcpy(block + row * 2, &bits, 2);
    for (size_t c = 0; c < n; c++) {
      auto codes = reinterpret_cast<uint8_t*>(block) + block_scale_bytes + row * 4 + c % 4;
      if (dtype_ == DType::q8) {
        const int value = std::clamp(int(std::lround(values[c] / scale)), -127, 127);
        codes[c / 4 * 64] = uint8_t(value + 128);
        values[c] = scale * float(value);
        continue;
      }
      uint8_t best = 0;
      auto error = [&](uint8_t i) { return std::fabs(scale * float(q4_values[i]) - values[c]); };
      for (uint8_t i = 1; i < 16; i++) best = error(i) < error(best) ? i : best;
      uint8_t& byte = codes[c % 16 / 4 * 64];
      byte = uint8_t(c < 16 ? (byte & 0xf0) | best : (byte & 0x0f) | best << 4);
      values[c] = scale * float(q4_values[best]);
    }
  }

  DType dtype_ = DType::f32;
  uint64_t rows_ = 0, columns_ = 0;
  std::vector<std::byte> bytes_;
  std::vector<float> values_;
};

// A configuration whose step is large enough for any test with these sizes.
inline Config config_of(uint64_t hidden, uint64_t width, const RouterShape& router, uint64_t expert_width,
                        uint64_t head_size = 16) {
  Config config;
  config.hidden_size = hidden;
  config.vocab_size = 1 << 20;
  config.intermediate_size = config.shared_expert_width = width;
  config.n_heads = config.n_kv_heads = 1;
  config.head_size = head_size;
  config.router = router;
  config.expert_width = expert_width;
  return config;
}

inline std::shared_ptr<MemoryAccount> no_limit() { return std::make_shared<MemoryAccount>(0); }

// A pass on a device, and memory for what it reads and writes.
class Operations {
 public:
  Operations(Backend& device, const Config& config, size_t n_rows, uint64_t n_positions = 1024) : device_(device) {
    auto made = device.make_step(config, n_rows, n_positions, no_limit());
    EXPECT_TRUE(made.ok()) << made.status().message();
    step_ = std::move(*made);
  }
  ~Operations() { step_->end(); }
  // A pass without rows, for operations that do not look at them.
  Operations& begin(Precision precision = Precision::exact) { return begin({}, precision); }
  Operations& begin(const RaggedBatch& batch, Precision precision) {
    const Status begun = step_->begin(batch, precision);
    EXPECT_TRUE(begun.ok()) << begun.message();
    return *this;
  }

  template <class T>
  DevicePtr<T> put(const std::vector<T>& values) {
    auto memory = device_.allocate(values.size() * sizeof(T), no_limit(), "a test");
    EXPECT_TRUE(memory.ok());
    memory_.push_back(std::move(*memory));
    const DevicePtr<T> begin = memory_.back()->begin().as<T>();
    step_->upload<T>(values, begin);
    return begin;
  }
  template <class T>
  std::vector<T> get(DevicePtr<T> from, size_t n) {
    std::vector<T> values(n);
    step_->download<T>(from, std::span(values));
    EXPECT_TRUE(step_->wait().ok());
    return values;
  }
  WeightView bind(const Tensor& tensor) {
    const Tensor* const of = &tensor;
    auto bound = device_.bind({&of, 1}, no_limit(), {});
    EXPECT_TRUE(bound.ok());
    if (bound->memory) memory_.push_back(std::move(bound->memory));
    return bound->views[0];
  }
  WeightView bind(const RandomMatrix& matrix) { return bind(matrix.tensor()); }
  Step* operator->() { return step_.get(); }

 private:
  Backend& device_;
  std::unique_ptr<Step> step_;
  std::vector<std::unique_ptr<DeviceMemory>> memory_;
};

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
