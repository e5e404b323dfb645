// The file system's side of writing: a staging directory beside the destination, files in it, the moment of
// publication. The calls of Linux are named in staging.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/status.h"

namespace finermoe {

// A file being written. Closed, not removed, by its destructor.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::string& path);
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&& other) noexcept;
  ~OutputFile();
  // FILE_WRITE, DISK_FULL. Large files are handed to the disk as they are written, so that neither dirty pages nor the
  // time of the last sync grow with them.
  Status write(uint64_t offset, const void* data, uint64_t size);
  Status sync();

 private:
  OutputFile() = default;
  int fd_ = -1;
  std::string path_;
};

// One output, a directory or a single file. Until publish() everything lies in a directory OUT.partial-XXXXXX that is
// locked while its writer lives and removed by the destructor; what a killed writer left is removed by the next one.
class Staging {
 public:
  // Looks, and writes nothing: FILE_EXISTS, INVALID_ARGUMENT where OUT is the input or inside it or around it.
  static Result<Staging> plan(const std::string& out_path, const std::string& input_path, bool overwrite);
  Staging(Staging&& other) noexcept;
  Staging(const Staging&) = delete;
  ~Staging();

  // `bytes` is what will be written; DISK_FULL where the file system has less.
  Status begin(uint64_t bytes);
  bool is_single_file() const { return single_file_; }
  // In the result. For a single file the name is ignored.
  Result<OutputFile> create(const std::string& name) const;
  // Puts `last_name` with its content in place as the last file of a directory (none if empty: a single file), and the
  // result in the place of OUT.
  Status publish(const std::string& last_name, const std::string& content);

 private:
  Staging() = default;
  void remove_abandoned() const;
  Status replace();
  std::string out_, directory_;  // OUT; OUT.partial-XXXXXX, empty before begin()
  std::string contents() const { return directory_ + "/contents"; }
  bool single_file_ = false, overwrite_ = false;
  int lock_ = -1;
};

}  // namespace finermoe
