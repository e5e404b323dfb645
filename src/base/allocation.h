// Large memory: every array whose size follows the model, a session or a file is a Buffer and is counted.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/status.h"

namespace finermoe {

// What a runtime has allocated, and how much it may. Thread-safe without a lock, which a child of fork() could find
// held forever.
class MemoryAccount {
 public:
  explicit MemoryAccount(uint64_t limit) : limit_(limit) {}  // bytes; 0: no limit
  // `what` names the purpose in the error: "the KV cache", "scratch".
  Status reserve(uint64_t bytes, std::string_view what);
  void release(uint64_t bytes);
  uint64_t limit() const { return limit_; }
  uint64_t used() const { return used_.load(std::memory_order_relaxed); }
  uint64_t peak() const { return peak_.load(std::memory_order_relaxed); }

 private:
  const uint64_t limit_;
  std::atomic<uint64_t> used_{0}, peak_{0};
};

// Zeroed memory straight from the system, aligned to 64 bytes (huge pages if large). Pages cost nothing until they are
// touched, but count in full from the start.
class Buffer {
 public:
  Buffer() = default;
  static Result<Buffer> allocate(std::shared_ptr<MemoryAccount> account, uint64_t bytes, std::string_view what);
  Buffer(Buffer&& other) noexcept { swap(other); }
  Buffer& operator=(Buffer&& other) noexcept {
    swap(other);
    return *this;
  }
  ~Buffer();

  // Grows with zeros, or shrinks and frees the rest. The buffer must not be empty and the new size not 0. On error it
  // stays as it was; shrinking cannot fail.
  Status resize(uint64_t bytes, std::string_view what);

  template <class T = std::byte>
  T* data() const {
    return static_cast<T*>(data_);
  }
  uint64_t size() const { return size_; }

 private:
  void swap(Buffer& other) noexcept;
  void* data_ = nullptr;
  uint64_t size_ = 0;
  std::shared_ptr<MemoryAccount> account_;
};

}  // namespace finermoe
