// The file system's side of writing: a staging directory beside the destination, files in it, the moment of
// publication. The calls of Linux are named in staging.cc alone.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "base/descriptor.h"
#include "base/status.h"

namespace finermoe {

// A file being written. Closed, not removed, by its destructor.
class OutputFile {
 public:
  static Result<OutputFile> create(const std::string& path);
  // FILE_WRITE, DISK_FULL. Large files are handed to the disk as they are written, so that neither dirty pages nor the
  // time of the last sync grow with them.
  Status write(uint64_t offset, const void* data, uint64_t size);
  Status sync();

 private:
  OutputFile() = default;
  Descriptor file_;
  std::string path_;
};

// One output, a directory or a single file. Until publish() everything lies in a directory OUT.partial-XXXXXX that is
// locked while its writer lives and removed by the destructor; what a killed writer left is removed by the next one,
// where the file system has locks. The exception is an older model that was moved aside and not yet replaced: it comes
// back.
class Staging {
 public:
  // Looks, and writes nothing but to bring back what a killed writer had moved aside: FILE_EXISTS, INVALID_ARGUMENT
  // where OUT is the input or inside it or around it.
  static Result<Staging> plan(const std::string& out_path, const std::string& input_path, bool overwrite);
  Staging(Staging&& other) noexcept;
  Staging(const Staging&) = delete;
  ~Staging();

  // `bytes` is what will be written; DISK_FULL where the file system has less.
  Status begin(uint64_t bytes);
  bool is_single_file() const { return single_file_; }
  // In the result. For a single file the name is ignored.
  Result<OutputFile> create(const std::string& name);
  // Puts `last_name` with its content in place as the last file of a directory (none if empty: a single file), and the
  // result in the place of OUT. An error after that moment says that OUT is the new model.
  Status publish(const std::string& last_name, const std::string& content);

 private:
  Staging() = default;
  Status make_directory();
  void keep_mode() const;
  Status replace();
  Status settle(const std::string& last_name) const;
  std::string out_;
  std::string directory_, contents_;  // OUT.partial-XXXXXX and the result in it; empty before begin()
  std::vector<std::string> made_;     // files in them: the destructor has no memory to look for any
  bool single_file_ = false, overwrite_ = false;
  Descriptor lock_;
};

}  // namespace finermoe
