// A file being written, and what all writers share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/descriptor.h"
#include "base/status.h"

namespace finermoe {

// Appended, in the name of an incomplete file, to its final name.
constexpr std::string_view partial_mark = ".partial-";

// The destructor closes the file but does not remove it.
class NewFile {
 public:
  NewFile() = default;
  NewFile(Descriptor descriptor, std::string name) : descriptor_(std::move(descriptor)), name_(std::move(name)) {}
  static Result<NewFile> create(const std::string& path);  // FILE_EXISTS, FILE_WRITE, DISK_FULL

  // FILE_WRITE, DISK_FULL. Large files are flushed to disk while they are written, so that neither the dirty pages nor
  // the time of the final sync grow with their size.
  Status write(uint64_t offset, std::span<const std::byte> data);
  Status sync();
  const Descriptor& descriptor() const { return descriptor_; }

 private:
  void hand_over(uint64_t end);
  Descriptor descriptor_;
  std::string name_;  // for messages
  uint64_t handed_over_ = 0;
};

// "cannot WHAT PATH: …"; DISK_FULL, FILE_EXISTS or FILE_WRITE.
Status write_error(const char* what, const std::string& path, int error);

// Makes the names in a directory survive a system crash. An errno, or 0.
int sync_directory(const std::string& path);

}  // namespace finermoe
