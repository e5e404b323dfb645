// OpenBLAS where it is installed, and libraries of the tests that stand for it.
#include <dlfcn.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "support.h"

namespace finermoe {
namespace {

std::string fake(const char* name) {
  const char* const path = std::getenv((std::string("FINERMOE_TEST_BLAS_") + name).c_str());
  EXPECT_NE(nullptr, path) << name;
  return path == nullptr ? "" : path;
}

size_t n_threads_of_process() {
  size_t n = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/task")) n++;
  return n;
}

// Mappings of a library in this process, by a part of its path.
size_t n_mappings(const std::string& part) {
  std::ifstream maps("/proc/self/maps");
  size_t n = 0;
  for (std::string line; std::getline(maps, line);) n += line.find(part) != line.npos;
  return n;
}

void expect_refusal(const std::string& path, int32_t code, const std::string& part) {
  const Status status = Blas::open(path).status();
  EXPECT_EQ(code, status.code()) << path;
  EXPECT_NE(std::string::npos, status.message().find(part)) << status.message();
  EXPECT_FALSE(status.expected().empty() && code == FINERMOE_ERROR_UNSUPPORTED);
}

TEST(BlasOpen, WhatIsNoLibraryIsRefused) {
  const std::string folder = testing::TempDir(), text = folder + "/finermoe_no_library.so";
  std::ofstream(text) << "INPUT(libopenblas.so.0)\n";
  expect_refusal(folder + "/is-not-there.so", FINERMOE_ERROR_FILE_NOT_FOUND, "is-not-there.so");
  expect_refusal(folder, FINERMOE_ERROR_FILE_UNREADABLE, folder);
  expect_refusal(text, FINERMOE_ERROR_FILE_UNREADABLE, "cannot be loaded");
  std::filesystem::remove(text);
}

TEST(BlasOpen, ALibraryThatCannotBeUsedIsRefused) {
  for (const auto& [name, part] : {std::pair{"LACKS", "it lacks cblas_sgemm"},
                                   {"64_BIT_NAMES", "its integers have 64 bits"},
                                   {"64_BIT", "its integers have 64 bits"},
                                   {"OPENMP", "it was built with OpenMP"},
                                   {"KEEPS_THREADS", "it does not compute on the calling thread alone"},
                                   {"SKIPS_LAST", "its products are wrong"},
                                   {"READS_OUTPUT", "its products are wrong"},
                                   {"ROUNDS", "its products are wrong"}}) {
    expect_refusal(fake(name), FINERMOE_ERROR_UNSUPPORTED, part);
    EXPECT_EQ(0u, n_mappings("fake_blas")) << name << " is still loaded";
  }
  const auto good = Blas::open(fake("GOOD"));
  ASSERT_TRUE(good.ok()) << good.status().message();
  EXPECT_EQ("OpenBLAS 0.0 of the tests MAX_THREADS=4", (*good)->description());
  EXPECT_EQ(4u, (*good)->calls_at_once());
}

TEST(BlasOpen, ItIsClosedWithItsLastUser) {
  auto blas = Blas::open(fake("GOOD"));
  ASSERT_TRUE(blas.ok());
  EXPECT_NE(0u, n_mappings("fake_blas"));
  *blas = nullptr;
  EXPECT_EQ(0u, n_mappings("fake_blas"));
}

// In a child of fork() locks may be held forever: nothing is closed there.
// Each copy has a namespace of the loader, which has 16 of them with glibc. In a process of its own, whose namespaces
// no other test needs.
TEST(BlasOpen, MoreCopiesThanTheLoaderHasRoomForAreRefusedAndTheOthersStay) {
  const std::string path = fake("GOOD");
  const pid_t child = fork();
  if (child == 0) {
    std::vector<std::shared_ptr<const Blas>> copies;
    Status refusal;
    while (refusal.ok() && copies.size() < 100) {
      auto blas = Blas::open(path);
      refusal = blas.status();
      if (blas.ok()) copies.push_back(*blas);
    }
    EXPECT_EQ(FINERMOE_ERROR_FILE_UNREADABLE, refusal.code()) << copies.size() << " copies";
    EXPECT_NE(std::string::npos, refusal.message().find("cannot be loaded: ")) << refusal.message();
    EXPECT_GE(copies.size(), 4u);
    copies.pop_back();
    EXPECT_TRUE(Blas::open(path).ok());
    _exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

TEST(BlasOpen, AChildOfForkFreesIt) {
  auto blas = Blas::open(fake("GOOD"));
  ASSERT_TRUE(blas.ok());
  const pid_t child = fork();
  if (child == 0) {
    alarm(20);
    *blas = nullptr;
    _exit(n_mappings("fake_blas") != 0 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(child, waitpid(child, &status, 0));
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
}

// With OpenBLAS as this machine has it.
class SystemBlas : public testing::Test {
 protected:
  void SetUp() override {
    if (!has_blas()) GTEST_SKIP() << "this machine lacks OpenBLAS";
    ASSERT_TRUE(system_blas().ok()) << system_blas().status().message();
  }
};

TEST_F(SystemBlas, StartsNoThreadsAndLeavesTheCallersProcessors) {
  cpu_set_t before, after;
  ASSERT_EQ(0, sched_getaffinity(0, sizeof before, &before));
  const size_t n_threads = n_threads_of_process();
  const auto blas = Blas::open({});
  ASSERT_TRUE(blas.ok());
  EXPECT_EQ(n_threads, n_threads_of_process());
  ASSERT_EQ(0, sched_getaffinity(0, sizeof after, &after));
  EXPECT_TRUE(CPU_EQUAL(&before, &after));
  EXPECT_EQ(0u, (*blas)->description().find("OpenBLAS ")) << (*blas)->description();
}

// The host's copy, loaded before or after, has its own number of threads.
TEST_F(SystemBlas, IsNotTheHostsCopy) {
  for (const bool is_first : {true, false}) {
    void* host = is_first ? dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL) : nullptr;
    const auto function = [&](const char* name) { return dlsym(host, name); };
    if (is_first) reinterpret_cast<void (*)(int)>(function("openblas_set_num_threads"))(2);
    const auto ours = Blas::open({}), another = Blas::open({});
    ASSERT_TRUE(ours.ok() && another.ok());
    if (!is_first) {
      EXPECT_EQ(nullptr, dlopen("libopenblas.so.0", RTLD_NOW | RTLD_NOLOAD));
      host = dlopen("libopenblas.so.0", RTLD_NOW | RTLD_GLOBAL);
      ASSERT_NE(nullptr, host);
      reinterpret_cast<void (*)(int)>(function("openblas_set_num_threads"))(2);
    }
    const bool has_threads = reinterpret_cast<int (*)()>(function("openblas_get_parallel"))() != 0;
    EXPECT_EQ(has_threads ? 2 : 1, reinterpret_cast<int (*)()>(function("openblas_get_num_threads"))());
    dlclose(host);
  }
}

// Debian's serial build has no locks, which a few thousand products do not always show.
TEST(SerialBlas, IsCalledByOneThreadAtATime) {
  std::string serial;
  for (const auto& folder : std::filesystem::directory_iterator("/usr/lib")) {
    const std::string path = folder.path().string() + "/openblas-serial/libopenblas.so.0";
    if (std::filesystem::exists(path)) serial = path;
  }
  if (serial.empty()) GTEST_SKIP() << "this machine lacks libopenblas0-serial";
  const auto blas = Blas::open(serial);
  ASSERT_TRUE(blas.ok()) << blas.status().message();
  EXPECT_EQ(1u, (*blas)->calls_at_once());
}

struct Product {
  const RandomMatrix& weight;
  size_t n;
  const std::vector<float>& x;
  bool is_scattered = false;  // rows of x and of the result are not evenly spaced
};

// The result, or what is added to `start`. The scratch is as large as is asked for, and the memory of the result holds
// NaN, so that a sanitizer, or the result, shows what should not be touched.
std::vector<float> product(const Blas& blas, const Product& p, size_t first, size_t n_rows,
                           const std::vector<float>* start = nullptr) {
  const WeightView whole = p.weight.view(), w = rows_of(whole, first, n_rows);
  const size_t gap = p.is_scattered ? 3 : 0;
  std::vector<float> x(p.n * (w.columns + gap * p.n)), out(p.n * (n_rows + gap * p.n), NAN);
  std::vector<const void*> x_rows;
  std::vector<float*> out_rows;
  for (size_t i = 0; i < p.n; i++) {
    float* const row = x.data() + i * w.columns + gap * i * i;
    std::copy_n(p.x.data() + i * w.columns, w.columns, row);
    x_rows.push_back(row);
    out_rows.push_back(out.data() + i * n_rows + gap * i * i);
    if (start != nullptr) std::copy_n(start->data() + i * whole.rows + first, n_rows, out_rows.back());
  }
  std::vector<std::byte> scratch(Blas::matmul_scratch(p.n) + 64);
  blas.matmul(portable::kernels,
              {.x = x_rows.data(),
               .out = out_rows.data(),
               .n = p.n,
               .weight = w.data.address(),
               .dtype = w.dtype,
               .rows = n_rows,
               .columns = w.columns,
               .accumulate = start != nullptr,
               .scratch = reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(scratch.data()) + 63) / 64 * 64)});
  std::vector<float> result;
  for (const float* row : out_rows) result.insert(result.end(), row, row + n_rows);
  return result;
}
std::vector<float> product(const Blas& blas, const Product& p, const std::vector<float>* start = nullptr) {
  return product(blas, p, 0, p.weight.view().rows, start);
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

constexpr std::array matrix_dtypes = {DType::f32, DType::f16, DType::bf16, DType::q8, DType::q4};

TEST_F(SystemBlas, ProductsOfEveryTypeAndOddSize) {
  for (const DType dtype : matrix_dtypes) {
    for (auto [rows, columns] : {std::pair{1, 1}, {3, 7}, {64, 36}, {33, 280}, {130, 801}, {300, 387}}) {
      const RandomMatrix weight(dtype, rows, columns, 1);
      for (const size_t n : {16, 17, 31, 130, 264}) {
        SCOPED_TRACE(format_text(name_of(dtype), " ", rows, " x ", columns, ", ", n, " vectors"));
        const std::vector<float> x = random_floats(n * columns, 2), start = random_floats(n * rows, 3);
        std::vector<double> expected;
        for (size_t i = 0; i < n; i++) {
          const std::vector<double> row = weight.times(x.data() + i * columns);
          expected.insert(expected.end(), row.begin(), row.end());
        }
        expect_close(product(**system_blas(), {weight, n, x}).data(), expected, 2e-6);
        for (size_t i = 0; i < expected.size(); i++) expected[i] += double(start[i]);
        expect_close(product(**system_blas(), {weight, n, x}, &start).data(), expected, 2e-6);
      }
    }
  }
}

TEST_F(SystemBlas, CopiedRowsAndOtherTasksChangeNoBits) {
  for (const DType dtype : {DType::f32, DType::bf16, DType::q8}) {
    const size_t rows = 5 * blas_rows + 40, columns = 801, n = 33;
    const RandomMatrix weight(dtype, rows, columns, 4);
    const std::vector<float> x = random_floats(n * columns, 5), start = random_floats(n * rows, 6);
    for (const auto* from : {static_cast<const std::vector<float>*>(nullptr), &start}) {
      const std::vector<float> whole = product(**system_blas(), {weight, n, x}, from);
      EXPECT_TRUE(same_bits(whole, product(**system_blas(), {weight, n, x, true}, from)));
      for (const size_t first : {blas_rows, 4 * blas_rows}) {
        const std::vector<float> part = product(**system_blas(), {weight, n, x}, first, rows - first, from);
        for (size_t i = 0; i < n; i++) {
          ASSERT_EQ(0, std::memcmp(part.data() + i * (rows - first), whole.data() + i * rows + first,
                                   (rows - first) * sizeof(float)));
        }
      }
    }
  }
}

TEST_F(SystemBlas, NanAndInfinityShowInTheirRowsAlone) {
  const size_t rows = 150, columns = 400, n = 20;
  const RandomMatrix weight(DType::f32, rows, columns, 7);
  std::vector<float> x = random_floats(n * columns, 8);
  x[3 * columns + 390] = NAN, x[5 * columns + 2] = INFINITY;
  const std::vector<float> out = product(**system_blas(), {weight, n, x});
  for (size_t i = 0; i < out.size(); i++) {
    const size_t row = i / rows;
    ASSERT_EQ(row == 3 || row == 5, !std::isfinite(out[i])) << i;
  }
}

// Many rows of a matrix by a backend; the products of few rows, of quantized and of batch-invariant ones stay with the
// kernels, and with them the bits.
struct Linear {
  DType dtype = DType::f32;
  size_t n = 40;
  Precision precision = Precision::exact;
  bool as_alone = false;
};
std::vector<float> linear(const std::shared_ptr<const Blas>& blas, const Linear& of, uint32_t n_threads = 2) {
  constexpr uint64_t rows = 700, columns = 420;
  CpuBackend backend(portable::kernels, std::make_shared<ThreadPool>(n_threads), blas);
  Operations on(backend, config_of(columns, 8, {}, 0), of.n);
  on.begin({.tokens = {}, .positions = {}, .sessions = {}, .caches = {}, .as_alone = of.as_alone}, of.precision);
  const RandomMatrix weight(of.dtype, rows, columns, 9);
  const DevicePtr<float> out = on.put(std::vector<float>(of.n * rows));
  on->linear(on.put(random_floats(of.n * columns, 10)), on.bind(weight), of.n, false, out);
  return on.get(out, of.n * rows);
}

TEST_F(SystemBlas, IsLeftManyFloatVectorsAndNothingElse) {
  const auto is_used = [](const Linear& of) { return !same_bits(linear(nullptr, of), linear(*system_blas(), of)); };
  for (const DType dtype : matrix_dtypes) {
    EXPECT_TRUE(is_used({dtype}));
    EXPECT_FALSE(is_used({dtype, blas_least_vectors - 1}));
    EXPECT_EQ(!is_blocked(dtype), is_used({.dtype = dtype, .precision = Precision::fast}));
    EXPECT_FALSE(is_used({.dtype = dtype, .as_alone = true}));
  }
}

// More threads than OpenBLAS has buffers for, where it would crash.
TEST_F(SystemBlas, ServesAnyNumberOfThreads) {
  if (address_sanitizer || thread_sanitizer) GTEST_SKIP() << "hundreds of threads take too long with a sanitizer";
  const size_t n = 16;
  const RandomMatrix weight(DType::f32, 64, 384, 11);
  const std::vector<float> x = random_floats(n * 384, 12), expected = product(**system_blas(), {weight, n, x});
  std::atomic<size_t> n_wrong{0};
  ThreadPool(400).run(4'000, [&](size_t, size_t) {
    n_wrong += !same_bits(expected, product(**system_blas(), {weight, n, x}));
  });
  EXPECT_EQ(0u, n_wrong);
}

TEST_F(SystemBlas, ResultsDoNotDependOnTheNumberOfThreads) {
  for (const DType dtype : {DType::f32, DType::q8}) {
    for (const size_t n : {16, 300}) {
      const std::vector<float> alone = linear(*system_blas(), {dtype, n}, 1);
      for (const uint32_t n_threads : {2, 3, 8})
        EXPECT_TRUE(same_bits(alone, linear(*system_blas(), {dtype, n}, n_threads)));
    }
  }
}

#if defined(__x86_64__)
// Whether the processor says which registers are in use, and that of AVX registers not only the lower halves are.
bool says_what_is_in_use() {
  unsigned eax = 0, ebx, ecx, edx;
  return detect_cpu_features().avx && __get_cpuid_count(13, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 4) != 0;
}
bool has_upper_halves_in_use() {
  unsigned low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(1));
  return (low & 4) != 0;
}

// Code without AVX is slow while they are.
TEST(BlasRegisters, UpperHalvesAreFreedAfterACall) {
  if (!says_what_is_in_use()) GTEST_SKIP() << "this processor does not say which registers are in use";
  __asm__ volatile("vcmptrueps %%ymm15, %%ymm15, %%ymm15" ::: "xmm15");
  EXPECT_TRUE(has_upper_halves_in_use());
  const auto blas = Blas::open(fake("GOOD"));
  ASSERT_TRUE(blas.ok());
  EXPECT_FALSE(has_upper_halves_in_use());
}
#endif

TEST(RacingBlas, IsCalledByOneThreadAtATime) {
  const auto blas = Blas::open(fake("RACES"));
  ASSERT_TRUE(blas.ok()) << blas.status().message();
  EXPECT_EQ(1u, (*blas)->calls_at_once());
  const std::vector<float> alone = linear(*blas, {}, 1);
  for (int repeat = 0; repeat < 20; repeat++) ASSERT_TRUE(same_bits(alone, linear(*blas, {}, 4)));
}

}  // namespace
}  // namespace finermoe
