// The file system, behind one seam: opening, reading, mapping, atomic replacement. Linux's calls are named in file.cc
// and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/allocation.h"
#include "base/function_ref.h"
#include "base/status.h"

namespace finermoe {

// A directory or a regular file, open for reading. Names are always opened relative to a directory that is open
// already, so that a model whose directory is renamed stays whole.
class File {
 public:
  File() = default;
  static Result<File> open(const std::string& path);                // FILE_NOT_FOUND, FILE_UNREADABLE, INVALID_ARGUMENT
  static Result<File> duplicate(int fd, std::string display_name);  // the caller keeps its own descriptor
  Result<File> open_at(const std::string& name) const;  // in a directory; PATH where the name could lead elsewhere
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;
  ~File();

  bool is_directory() const { return is_directory_; }
  uint64_t size() const { return size_; }  // when it was opened
  const std::string& name() const { return name_; }
  int descriptor() const { return fd_; }
  Result<uint64_t> current_size() const;
  Status read(uint64_t offset, std::span<std::byte> out) const;  // all of it, or an error
  Result<std::string> read_all(uint64_t most) const;             // small text files; larger than `most` is an error
  Result<std::vector<std::string>> list() const;                 // names in a directory, sorted

 private:
  static Result<File> adopt(int fd, std::string name);
  int fd_ = -1;
  bool is_directory_ = false;
  uint64_t size_ = 0;
  std::string name_;  // for messages
};

// Bytes that stay put: a mapped file, a copy of one, or the host's memory.
class Bytes {
 public:
  static Result<std::shared_ptr<const Bytes>> map(File file);
  // `on_progress` hears of the bytes done, and may stop it.
  static Result<std::shared_ptr<const Bytes>> copy(const File& file, std::shared_ptr<MemoryAccount> account,
                                                   FunctionRef<Status(uint64_t done)> on_progress);
  static std::shared_ptr<const Bytes> borrow(const void* data, size_t size, std::string name);
  ~Bytes();

  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }
  // FILE_CHANGED if the mapped file is now shorter than the mapping: reading on would raise SIGBUS.
  Status check_unchanged() const;
  // Advice to the system: the range will be read soon, or not again (its pages leave this process, the cache keeps
  // them).
  void will_read(uint64_t offset, uint64_t size) const;
  void done_with(uint64_t offset, uint64_t size) const;

 private:
  Bytes() = default;
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  std::string name_;
  File file_;      // of a mapping
  Buffer buffer_;  // of a copy
  bool mapped_ = false;
};

}  // namespace finermoe
