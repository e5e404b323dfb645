// The most that a GPU's memory and its tensor cores give, for shares in bench/gpu.py:
//
//   bench-gpu-limits [INDEX [BYTES [SIZE]]]
//
// of device INDEX (0): reading BYTES (2 GiB), and products of BF16 matrices [SIZE, SIZE] (8192). Prints a JSON object;
// exits with 77 and the reason where there is no such device.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <vector>

#include "base/dtype.h"
#include "base/stopwatch.h"
#include "cuda/blas_products.h"
#include "cuda/context.h"
#include "gpu_limits.h"

namespace finermoe::cuda {
namespace {

constexpr int n_rounds = 5, n_repeated = 20;

// Calls of `enqueue` in a second, the best of some rounds; the first calls do not count.
template <class Enqueue>
Result<double> rate(const Context& context, const Enqueue& enqueue) {
  double best = 0;
  for (int round = 0; round <= n_rounds; round++) {
    const Stopwatch watch;
    FM_TRY(context.run("measuring", [&](StreamHandle stream) {
      Code code = success;
      for (int i = 0; i < n_repeated && code == success; i++) code = enqueue(stream);
      return code;
    }));
    if (round > 0) best = std::max(best, n_repeated / watch.seconds());
  }
  return best;
}

// Bytes a second, with as many blocks as are fastest.
Result<double> read_rate(const std::shared_ptr<const Context>& context, uint64_t bytes) {
  const auto account = std::make_shared<MemoryAccount>(0);
  FM_ASSIGN(const Memory memory, Memory::allocate(context, Memory::Where::device, bytes + 16, account, "what is read"));
  const auto* const from = reinterpret_cast<const std::byte*>(memory.address());
  auto* const out = reinterpret_cast<uint32_t*>(memory.address() + bytes);
  double best = 0;
  const uint64_t most_blocks = std::clamp<uint64_t>(bytes >> 16, 1, 16384);
  for (auto n_blocks = static_cast<unsigned>(std::min<uint64_t>(256, most_blocks)); n_blocks <= most_blocks;
       n_blocks *= 2) {
    FM_ASSIGN(const double times,
              rate(*context, [&](StreamHandle stream) { return enqueue_read(stream, from, bytes, n_blocks, out); }));
    best = std::max(best, times * static_cast<double>(bytes));
  }
  return best;
}

// BF16 numbers as weights have them: a GPU that multiplies zeros draws less power, and is faster.
Status fill(const Context& context, Address to, uint64_t bytes) {
  std::vector<uint16_t> numbers(std::min<uint64_t>(bytes, uint64_t{8} << 20) / sizeof(uint16_t));
  std::minstd_rand generator(1);
  std::normal_distribution<float> normal;
  for (uint16_t& number : numbers) number = float_to_bf16(normal(generator));
  const uint64_t size = numbers.size() * sizeof(uint16_t);
  for (uint64_t begin = 0; begin < bytes; begin += size) {
    FM_TRY(context.upload(to + begin, numbers.data(), std::min(size, bytes - begin)));
  }
  return {};
}

// Operations a second of a product by cuBLASLt; 0 without it.
Result<double> product_rate(const std::shared_ptr<const Context>& context, uint32_t size) {
  std::unique_ptr<const BlasLibrary> library;
  context->with([&] {
    library = BlasLibrary::start(context->driver().load_blas());
    return success;
  });
  if (!library) return 0.0;
  const auto account = std::make_shared<MemoryAccount>(0);
  const uint64_t n = uint64_t{size} * size;
  FM_ASSIGN(const Memory memory,
            Memory::allocate(context, Memory::Where::device, n * 8 + blas_workspace_bytes, account, "matrices"));
  auto* const matrices = reinterpret_cast<std::byte*>(memory.address());
  const Linear task{.x = nullptr,
                    .weight = {matrices, DType::bf16, size, size},
                    .n = size,
                    .accumulate = false,
                    .batch_invariant = false,
                    .operands = reinterpret_cast<uint16_t*>(matrices + n * 2),
                    .out = reinterpret_cast<float*>(matrices + n * 4)};
  FM_TRY(fill(*context, memory.address(), n * 4));
  BlasProducts products;
  bool is_done = true;
  FM_ASSIGN(const double times, rate(*context, [&](StreamHandle stream) {
              is_done = is_done && products.multiply(*library, stream, task, matrices + n * 8);
              return success;
            }));
  context->with([&] {
    products = BlasProducts();
    library.reset();
    return success;
  });
  return is_done ? 2 * times * static_cast<double>(n) * size : 0.0;
}

Status measure(int index, uint64_t bytes, uint32_t size) {
  FM_ASSIGN(const auto driver, driver_to_measure());
  DeviceHandle handle = 0;
  FM_TRY(status_of(*driver, driver->device_get(&handle, index), "finding a device"));
  char name[80] = "";
  driver->device_name(name, sizeof name, handle);
  FM_ASSIGN(const auto context, Context::open(driver, handle));
  FM_ASSIGN(const double read, read_rate(context, bytes));
  FM_ASSIGN(const double product, product_rate(context, size));
  std::printf("{\"name\": \"%s\", \"read_gb_per_second\": %.1f, \"bf16_gop_per_second\": %.1f, \"size\": %u}\n", name,
              read / 1e9, product / 1e9, size);
  return {};
}

}  // namespace
}  // namespace finermoe::cuda

int main(int argc, char** argv) {
  const auto number = [&](int at, uint64_t otherwise) {
    return argc > at ? std::strtoull(argv[at], nullptr, 10) : otherwise;
  };
  const finermoe::Status status =
      finermoe::cuda::measure(static_cast<int>(number(1, 0)), number(2, uint64_t{2} << 30) / 16 * 16,
                              static_cast<uint32_t>(number(3, 8192)) / 8 * 8);
  if (status.ok()) return 0;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  return 77;
}
