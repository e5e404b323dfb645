// Memory cut into arrays.
#pragma once

#include <cstddef>
#include <cstdint>

namespace finermoe {
// Unnamed, so that each instruction set has a copy of its own (see kernels/isa.h).
namespace {

// Places arrays one behind the other, each aligned to 64 bytes. Without memory it only counts.
class Places {
 public:
  explicit Places(void* memory = nullptr) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  void put(T*& array, uint64_t n) {
    array = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += (n * sizeof(T) + 63) / 64 * 64;
  }
  uint64_t used() const { return used_; }

 private:
  char* const memory_;
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
