#include "cpu/blas.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <string_view>
#include <vector>

#include "base/cpu_features.h"
#include "base/thread_pool.h"

namespace finermoe {
namespace {

// Of cblas.h
constexpr int row_major = 101, not_transposed = 111, transposed = 112;
// Of openblas_get_parallel()
constexpr int built_with_openmp = 2;

Status unusable(std::string_view name, std::string_view why, std::string expected, std::string found) {
  return Status(FINERMOE_ERROR_UNSUPPORTED, format_text("the BLAS library ", name, " cannot be used: ", why),
                std::move(expected), std::move(found));
}

constexpr const char* system_name = "libopenblas.so.0";  // as all Linux distributions have it

Result<SharedLibrary> open_library(const std::string& path) {
  if (!path.empty()) {
    FM_ASSIGN(const std::string file, library_file(path));
    return SharedLibrary::open_privately(file);
  }
  auto found = SharedLibrary::open_privately(system_name);
  if (found.ok()) return found;
  return Status(FINERMOE_ERROR_FILE_NOT_FOUND, format_text("OpenBLAS cannot be loaded: ", found.status().found()),
                system_name, found.status().found());
}

// Some of OpenBLAS's kernels leave the upper halves of AVX registers in use, and then code without AVX, such as the
// portable kernels, is up to three times slower.
#if defined(__x86_64__)
__attribute__((target("avx"))) void free_upper_halves() { _mm256_zeroupper(); }
#else
void free_upper_halves() {}
#endif

// The threads that a library says it was built for, "MAX_THREADS=64": it has buffers for so many calls at the same
// time, and may crash with more than twice as many. One that says nothing has no locks.
size_t built_for(std::string_view description) {
  constexpr std::string_view key = "MAX_THREADS=";
  const size_t begin = description.find(key);
  size_t n = 0;
  if (begin != description.npos) {
    std::from_chars(description.data() + begin + key.size(), description.data() + description.size(), n);
  }
  return std::max<size_t>(n, 1);
}

// A product with a known result: integers, so that every order of summation has the same sums, and so large that
// arithmetic of fewer than 24 bits shows.
struct Check {
  size_t n, rows, depth;
  std::vector<float> x, w, expected;

  Check(size_t n_, size_t rows_, size_t depth_)
      : n(n_), rows(rows_), depth(depth_), x(integers(n * depth, 1999)), w(integers(rows * depth, 13)) {
    for (size_t i = 0; i < n; i++) {
      for (size_t r = 0; r < rows; r++) {
        double sum = 0;
        for (size_t k = 0; k < depth; k++) sum += double{x[i * depth + k]} * double{w[r * depth + k]};
        expected.push_back(static_cast<float>(sum));
      }
    }
  }
  // Odd numbers of magnitudes below `bound`.
  static std::vector<float> integers(size_t count, uint32_t bound) {
    std::vector<float> values(count);
    uint32_t state = bound;
    for (float& value : values) {
      state = state * 1664525u + 1013904223u;
      value = static_cast<float>(static_cast<int32_t>((state >> 8) % bound / 2 * 2 + 1) * (state >> 31 ? -1 : 1));
    }
    return values;
  }
};

}  // namespace

Result<std::shared_ptr<const Blas>> Blas::open(const std::string& path) {
  FM_ASSIGN(SharedLibrary library, open_library(path));
  const std::shared_ptr<Blas> blas(new Blas(std::move(library)));
  const std::string name = path.empty() ? system_name : path;
  FM_TRY(blas->start(name));
  const DefaultFloatEnvironment environment;
  if (!blas->computes_right()) {
    return unusable(name, "its products are wrong", "products without errors", "errors");
  }
  blas->calls_at_once_ = built_for(blas->description_);
  if (!blas->computes_right_concurrently()) blas->calls_at_once_ = 1;
  return std::shared_ptr<const Blas>(blas);
}

Blas::Blas(SharedLibrary library) : library_(std::move(library)), has_avx_(detect_cpu_features().avx) {}

Status Blas::start(const std::string& name) {
  FunctionsOf found(library_);
  found.fill(functions_.sgemm, "cblas_sgemm");
  found.fill(functions_.config, "openblas_get_config");
  found.fill(functions_.parallel, "openblas_get_parallel");
  found.fill(functions_.set_num_threads, "openblas_set_num_threads");
  found.fill(functions_.num_threads, "openblas_get_num_threads");
  if (found.missing() != nullptr) {
    const bool is_64_bit = library_.find("cblas_sgemm64_") != nullptr;
    return unusable(name, is_64_bit ? "its integers have 64 bits" : format_text("it lacks ", found.missing()),
                    "OpenBLAS with integers of 32 bits", found.missing());
  }
  description_ = functions_.config();
  if (description_.find("USE64BITINT") != description_.npos) {
    return unusable(name, "its integers have 64 bits", "integers of 32 bits", description_);
  }
  if (functions_.parallel() == built_with_openmp) {
    return unusable(name, "it was built with OpenMP, which starts threads for every thread that calls it",
                    "OpenBLAS built with its own threads, or with none", description_);
  }
  functions_.set_num_threads(1);
  if (functions_.num_threads() != 1) {
    return unusable(name, "it does not compute on the calling thread alone", "1",
                    format_text(functions_.num_threads()));
  }
  return {};
}

// Exactly what is left to it: the shapes of tasks and odd ones, into memory that holds NaN, added to what is there, and
// rows in which NaN and infinity must show.
bool Blas::computes_right() const {
  constexpr std::array<std::array<size_t, 3>, 5> shapes = {
      {{matmul_max_vectors, blas_rows, matmul_depth_block}, {64, 32, 64}, {17, 5, 7}, {33, 100, 130}, {16, 128, 32}}};
  for (const auto& [n, rows, depth] : shapes) {
    Check check(n, rows, depth);
    std::vector<float> c(n * rows, NAN);
    multiply(n, rows, depth, check.x.data(), depth, check.w.data(), depth, false, c.data(), rows);
    if (c != check.expected) return false;
    multiply(n, rows, depth, check.x.data(), depth, check.w.data(), depth, true, c.data(), rows);
    for (size_t i = 0; i < c.size(); i++) {
      if (c[i] != 2 * check.expected[i]) return false;
    }
    check.x[0] = NAN;
    check.x[(n - 1) * depth + depth / 2] = INFINITY;
    for (size_t r = 0; r < rows; r++) check.w[r * depth + depth / 2] = 0;
    multiply(n, rows, depth, check.x.data(), depth, check.w.data(), depth, false, c.data(), rows);
    for (size_t i = 0; i < c.size(); i++) {
      if (std::isnan(c[i]) != (i / rows == 0 || i / rows == n - 1)) return false;
    }
  }
  return true;
}

// Small products of four threads at once, which a library without locks gets wrong within some thousand.
bool Blas::computes_right_concurrently() const {
  constexpr size_t n_threads = 4, n_products = 2'000;
  const Check check(32, 32, 64);
  std::atomic<bool> is_right{true};
  ThreadPool(n_threads).run(n_threads, [&](size_t, size_t) {
    std::vector<float> c(check.expected.size());
    for (size_t i = 0; i < n_products && is_right; i++) {
      multiply(check.n, check.rows, check.depth, check.x.data(), check.depth, check.w.data(), check.depth, false,
               c.data(), check.rows);
      if (c != check.expected) is_right = false;
    }
  });
  return is_right;
}

void Blas::multiply(size_t n, size_t rows, size_t depth, const float* x, size_t ldx, const float* w, size_t ldw,
                    bool accumulate, float* c, size_t ldc) const {
  {
    std::unique_lock lock(mutex_);
    call_ended_.wait(lock, [this] { return n_calls_ < calls_at_once_; });
    n_calls_++;
  }
  functions_.sgemm(row_major, not_transposed, transposed, static_cast<int>(n), static_cast<int>(rows),
                   static_cast<int>(depth), 1, x, static_cast<int>(ldx), w, static_cast<int>(ldw), accumulate ? 1 : 0,
                   c, static_cast<int>(ldc));
  if (has_avx_) free_upper_halves();
  {
    const std::lock_guard lock(mutex_);
    n_calls_--;
  }
  call_ended_.notify_one();
}

}  // namespace finermoe
