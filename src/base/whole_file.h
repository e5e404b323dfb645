// A file that appears at its path when it is whole, or not at all: written beside it, synced, renamed.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/status.h"

namespace finermoe {

class WholeFile {
 public:
  static Result<WholeFile> create(const std::string& path);  // FILE_WRITE if the directory cannot be written to
  WholeFile(WholeFile&& other) noexcept;
  WholeFile& operator=(WholeFile&& other) noexcept;
  ~WholeFile();  // without commit: removes what was written

  Status write(std::span<const std::byte> data);  // FILE_WRITE, DISK_FULL
  Status commit();                                // replaces an older file

 private:
  WholeFile() = default;
  int fd_ = -1;
  std::string path_, partial_path_;
};

}  // namespace finermoe
