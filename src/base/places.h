// Memory divided into arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace finermoe {
// Unnamed, so that each instruction set gets its own copy (see cpu/kernels/isa.h).
namespace {

// Places arrays one after the other, each aligned to 64 bytes. Without memory it only counts.
class Places {
 public:
  Places() = default;
  explicit Places(void* memory) : memory_(reinterpret_cast<uintptr_t>(memory)) {}
  explicit Places(uintptr_t memory) : memory_(memory) {}
  template <class T>
  void put(T*& array, uint64_t n) {
    array = reinterpret_cast<T*>(next(n * sizeof(T)));
  }
  // The address of the next `bytes` bytes, or 0 when only counting.
  uintptr_t next(uint64_t bytes) {
    const uintptr_t address = memory_ == 0 ? 0 : memory_ + used_;
    used_ += (bytes + 63) / 64 * 64;
    return address;
  }
  uint64_t used() const { return used_; }

 private:
  const uintptr_t memory_ = 0;
  uint64_t used_ = 0;
};

// Bytes of the arrays that the constructor of an Arrays places.
template <class Arrays, class... Sizes>
size_t bytes_of_arrays(const Sizes&... sizes) {
  Places counted;
  const Arrays arrays(counted, sizes...);
  return counted.used();
}

}  // namespace
}  // namespace finermoe
