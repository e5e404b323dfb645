// A file that appears at its path when it is whole, or not at all: written without a name or beside its place, synced,
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
  enum class Older { replaced, refused };  // what becomes of a file that is there

  // A symbolic link is followed: what it leads to is replaced, the link stays. An older file keeps its mode, and its
  // owner where the system lets it. FILE_WRITE where the path leads to something that is_replaceable() refuses or the
  // directory cannot be written to, FILE_EXISTS where the older file is not to be replaced; nothing is changed then.
  static Result<AtomicFile> create(const std::string& path, Older older = Older::replaced);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&& other) noexcept;
  ~AtomicFile();  // without commit: removes what was written

  // False where the path leads to something that is not a regular file with a name: a device, a pipe, a directory.
  static bool is_replaceable(const std::string& path);

  Status write(std::span<const std::byte> data);  // behind what it wrote before; FILE_WRITE, DISK_FULL
  NewFile& file() { return file_; }               // to write in another order
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
  std::string partial_path_;  // where it is now; empty while it has no name
  uint64_t size_ = 0;         // written by write()
  Older older_ = Older::replaced;
  bool replaces_ = false;
};

}  // namespace finermoe
