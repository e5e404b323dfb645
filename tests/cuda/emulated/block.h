// A block of threads, run by one thread of the host: each of its threads runs until it waits for others, and is then
// left on a stack of its own.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace emulated {

struct Dim3 {
  unsigned x = 1, y = 1, z = 1;
  constexpr Dim3() = default;
  constexpr Dim3(unsigned x_, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}  // NOLINT: as CUDA's
};

constexpr unsigned warp_size = 32, most_threads = 1024;

// In which order threads of a block run where nothing says so.
enum class Order { forwards, backwards, interleaved };

// Copies to shared memory that a thread has begun and not waited for, oldest first.
struct Copies {
  struct Copy {
    uint64_t group;
    void (*finish)(void* cell);
    void* cell;
  };
  std::vector<Copy> begun;
  uint64_t n_groups = 0;  // ever
};

// What the thread that is running may know.
struct Running {
  Dim3 index, block, block_size, grid_size;
  // Counted by barriers: what two threads did with another epoch between them is in order.
  uint32_t block_epoch = 0, warp_epoch = 0;
  uint32_t first_epoch = 0;  // of this block
  Copies* copies = nullptr;
  unsigned id() const { return index.x; }  // in the block
  unsigned warp() const { return index.x / warp_size; }
};
extern constinit thread_local Running running __attribute__((tls_model("initial-exec")));
inline const Running& current() { return running; }

// Runs a kernel for every block of a grid. The first thing that was wrong, or an empty text.
std::string run(Dim3 grid, Dim3 block, Order order, const std::function<void()>& kernel);

// Called by kernels.
void wait_for_block();
// Gives `value` to the other lanes of the warp and takes that of `from`, once all lanes have called it.
uint64_t exchange(uint64_t value, unsigned from);
// The same of several words: those of all lanes, until this lane's next exchange. Once all lanes have called it, the
// last one calls change(), if there is one, which may change them.
using Words = std::array<uint32_t, 6>;
const Words* share(const Words& words, void (*change)(Words* lanes) = nullptr);
// A pointer as words: to what a lane has on its stack, which change() may read and change while the lane waits.
template <class T>
Words words_of(T* pointer) {
  const auto bits = reinterpret_cast<uintptr_t>(pointer);
  return {static_cast<uint32_t>(bits), static_cast<uint32_t>(uint64_t{bits} >> 32)};
}
template <class T>
T* shared_pointer(const Words& words) {
  return reinterpret_cast<T*>(static_cast<uintptr_t>(uint64_t{words[1]} << 32 | words[0]));
}
void check_mask(unsigned mask);
// Something is wrong: the kernel goes on, its launch fails.
void report(const std::string& what);

// The allocation of the emulated devices that the last checked load was in, while none has gone.
struct Allocated {
  uintptr_t begin = 0, end = 0;
  uint64_t n_gone = 0;
};
extern constinit thread_local Allocated last_allocated __attribute__((tls_model("initial-exec")));
extern constinit std::atomic<uint64_t> n_allocations_gone;
bool find_allocated(uintptr_t address, uint64_t bytes);
inline bool is_allocated(const void* address, uint64_t bytes) {
  const auto first = reinterpret_cast<uintptr_t>(address);
  const bool is_in_last = first >= last_allocated.begin && first + bytes <= last_allocated.end;
  if (is_in_last && last_allocated.n_gone == n_allocations_gone.load(std::memory_order_relaxed)) return true;
  return find_allocated(first, bytes);
}

}  // namespace emulated
