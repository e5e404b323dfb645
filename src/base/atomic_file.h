// A file that appears at its path complete or not at all: written unnamed or under a temporary name beside it, synced,
// renamed.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/new_file.h"
#include "base/status.h"

namespace finermoe {

class AtomicFile {
 public:
  enum class Older { replaced, refused };  // what happens to an existing file

  // A symbolic link is followed: its target is replaced, the link stays. The mode of a replaced file is kept, and its
  // owner where permitted. FILE_WRITE if is_replaceable() rejects the target or the directory is not writable,
  // FILE_EXISTS if an existing file must not be replaced; nothing is changed then.
  static Result<AtomicFile> create(const std::string& path, Older older = Older::replaced);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();  // without commit: removes what was written

  // False if the path leads to something other than a named regular file: a device, a pipe, a directory.
  static bool is_replaceable(const std::string& path);

  Status write(std::span<const std::byte> data);  // appends; FILE_WRITE, DISK_FULL
  NewFile& file() { return file_; }               // for writing at other offsets
  Status commit();                                // FILE_WRITE, DISK_FULL; FILE_EXISTS as of create()

 private:
  AtomicFile() = default;
  Status open_beside();
  Status keep_mode();
  Status give_name();
  int rename_to_free_place() const;
  std::string partial_name() const;
  void remove_abandoned() const;
  NewFile file_;
  std::string shown_;         // the path as it was given, for messages
  std::string path_;          // where it goes, links followed
  std::string partial_path_;  // its temporary name; empty while unnamed
  uint64_t size_ = 0;         // written by write()
  Older older_ = Older::replaced;
  bool replaces_ = false;
};

}  // namespace finermoe
