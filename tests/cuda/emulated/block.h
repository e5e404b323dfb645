// A block of threads, run by one thread of the host: each of its threads is a fiber that runs until it waits for
// others.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <string>

namespace emulated {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3() = default;
  constexpr Dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: as CUDA's
};

constexpr unsigned warp_size = 32, most_threads = 1024;

// In which order threads of a block run where nothing says so.
enum class Order { forwards, backwards, interleaved };

// A copy to shared memory that has begun.
struct Copy {
  uint64_t group;
  std::function<void()> finish;
};

// What the thread that is running may know.
struct Thread {
  Dim3 index, block, block_size, grid_size;
  unsigned id = 0;  // in the block
  unsigned warp() const { return id / warp_size; }
  // Counted by barriers: what two threads did with another epoch between them is in order.
  uint64_t block_epoch = 0, warp_epoch = 0;
  uint64_t first_epoch = 0;  // of this block
  std::deque<Copy> copies;
  uint64_t n_copy_groups = 0;
};
extern constinit thread_local Thread* running __attribute__((tls_model("initial-exec")));
inline Thread& current() { return *running; }

// Runs a kernel for every block of a grid. The first thing that was wrong, or an empty text.
std::string run(Dim3 grid, Dim3 block, Order order, const std::function<void()>& kernel);

// Called by kernels.
void wait_for_block();
// Gives `value` to the other lanes of the warp and takes that of `from`, once all lanes have called it.
uint64_t exchange(uint64_t value, unsigned from);
// The same of several words: those of all lanes, until this lane's next exchange.
using Words = std::array<uint32_t, 6>;
const Words* share(const Words& words);
void check_mask(unsigned mask);
// Something is wrong: the kernel goes on, its launch fails.
void report(const std::string& what);

// The allocations of the emulated devices, for checked loads.
bool is_allocated(const void* address, uint64_t bytes);

}  // namespace emulated
