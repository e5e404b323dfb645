// The file system, behind one interface: opening, reading and mapping here, atomic replacement in atomic_file.h. Linux
// calls appear in the sources of these two, in descriptor.cc and nowhere else.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/allocation.h"
#include "base/descriptor.h"
#include "base/function_ref.h"
#include "base/status.h"

namespace finermoe {

// A directory or a regular file, open for reading. Names are always opened relative to an open directory, so that a
// model stays consistent when its directory is renamed.
class File {
 public:
  File() = default;
  static Result<File> open(const std::string& path);                // FILE_NOT_FOUND, FILE_UNREADABLE, INVALID_ARGUMENT
  static Result<File> duplicate(int fd, std::string display_name);  // the caller keeps its own descriptor
  Result<File> open_at(const std::string& name) const;  // in a directory; PATH if the name could lead elsewhere
  File(File&&) noexcept;
  File& operator=(File&&) noexcept;

  bool is_directory() const { return is_directory_; }
  uint64_t size() const { return size_; }  // when it was opened
  const std::string& name() const { return name_; }
  int descriptor() const { return descriptor_.get(); }
  Result<uint64_t> current_size() const;
  Status read(uint64_t offset, std::span<std::byte> out) const;  // all bytes, or an error
  Result<std::string> read_all(uint64_t most) const;             // small text files; larger than `most` is an error
  Result<std::vector<std::string>> list() const;                 // names in a directory, sorted

 private:
  static Result<File> adopt(Descriptor descriptor, std::string name);
  Descriptor descriptor_;
  bool is_directory_ = false;
  uint64_t size_ = 0;
  std::string name_;  // for messages
};

// Bytes at a fixed address: a mapped file, a copy of one, or the host's memory.
class FileBytes {
 public:
  static Result<std::shared_ptr<const FileBytes>> map(File file);
  // `on_progress` is told the bytes done, and can stop the copy.
  static Result<std::shared_ptr<const FileBytes>> copy(const File& file, std::shared_ptr<MemoryAccount> account,
                                                       FunctionRef<Status(uint64_t done)> on_progress);
  static Result<std::shared_ptr<const FileBytes>> copy(const FileBytes& other, std::shared_ptr<MemoryAccount> account,
                                                       FunctionRef<Status(uint64_t done)> on_progress);
  static std::shared_ptr<const FileBytes> borrow(const void* data, size_t size, std::string name);
  ~FileBytes();

  const std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }
  const std::string& name() const { return name_; }
  // FILE_CHANGED if the mapped file is now shorter than the mapping: reading beyond its end would raise SIGBUS.
  Status check_unchanged() const;
  bool is_mapped() const { return mapped_; }
  // Advice to the system about ranges of a mapping; other bytes are not affected. None of it changes what is read.

  // The range will be used soon: its pages are requested and read while the caller continues.
  void will_read(uint64_t offset, uint64_t size) const;
  // The file is read into huge pages, where its file system has them, and the mapping is faster to read. What is in the
  // page cache already keeps its pages.
  void map_by_huge_pages(uint64_t offset, uint64_t size) const;
  // A page fault maps only nearby pages: huge pages would read in more than was asked for.
  void map_by_small_pages(uint64_t offset, uint64_t size) const;
  // The range will not be used soon: its pages are unmapped from this process and, if no other one uses them, evicted.
  void release(uint64_t offset, uint64_t size) const;
  // Reads the pages that lie wholly in a range and locks them in memory for the lifetime of these bytes. OUT_OF_MEMORY
  // if the system refuses, INVALID_ARGUMENT for the host's memory.
  Status lock(uint64_t offset, uint64_t size) const;

 private:
  FileBytes() = default;
  // `read` fills the given part of the copy, which begins at `offset`.
  static Result<std::shared_ptr<const FileBytes>> copy(
      const std::string& name, uint64_t size, std::shared_ptr<MemoryAccount> account,
      FunctionRef<Status(uint64_t offset, std::span<std::byte> out)> read,
      FunctionRef<Status(uint64_t done)> on_progress);
  const std::byte* data_ = nullptr;
  uint64_t size_ = 0;
  std::string name_;
  File file_;      // of a mapping
  Buffer buffer_;  // of a copy
  bool mapped_ = false;
  uint64_t read_window_ = 0;  // bytes of a mapping per request
};

}  // namespace finermoe
