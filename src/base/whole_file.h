// A file that appears at its path when it is whole, or not at all: written without a name or beside its place, synced,
// renamed.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/descriptor.h"
#include "base/status.h"

namespace finermoe {

class WholeFile {
 public:
  // A symbolic link is followed: what it leads to is replaced, the link stays. An older file keeps its mode, and its
  // owner where the system lets it. FILE_WRITE where the path leads to something that is not a regular file (a device,
  // a pipe, a directory) or the directory cannot be written to; nothing is changed then.
  static Result<WholeFile> create(const std::string& path);
  WholeFile(WholeFile&& other) noexcept;
  WholeFile& operator=(WholeFile&& other) noexcept;
  ~WholeFile();  // without commit: removes what was written

  Status write(std::span<const std::byte> data);  // FILE_WRITE, DISK_FULL
  Status commit();                                // replaces an older file

 private:
  WholeFile() = default;
  Status open_beside();
  Status keep_mode();
  std::string partial_name() const;
  void remove_abandoned() const;
  Descriptor file_;
  std::string path_;          // where it goes, links followed
  std::string partial_path_;  // where it is now; empty while it has no name
  bool replaces_ = false;
};

}  // namespace finermoe
