// Where a writer puts its output: in a directory beside the destination until it is whole.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/atomic_file.h"
#include "base/descriptor.h"
#include "base/new_file.h"
#include "base/status.h"

namespace finermoe {

// One output, a directory or a single file. A single file is an AtomicFile. A directory lies, until publish(), in a
// directory OUT.partial-XXXXXX that is locked while its writer lives and removed by the destructor; what a killed
// writer left is removed by the next one, where the file system has locks. The exception is an older model that was
// moved aside and not yet replaced: it comes back.
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
  // A file of the result, until the next call; for a single file the name is ignored.
  Result<NewFile*> create(const std::string& name);
  // Puts `last_name` with its content in place as the last file of a directory (a single file has none), and the result
  // in the place of OUT. An error after that moment says that OUT is the new model.
  Status publish(const std::string& last_name, const std::string& content);

 private:
  Staging() = default;
  Status make_directory();
  Status replace();
  Status settle(const std::string& last_name) const;
  std::string out_;
  bool single_file_ = false, overwrite_ = false;
  std::optional<AtomicFile> single_;  // the output, if it is one file
  NewFile file_;                      // of a directory: the one that is written now
  std::string directory_, contents_;  // OUT.partial-XXXXXX and the result in it; empty before begin()
  std::vector<std::string> made_;     // files in them: the destructor has no memory to look for any
  Descriptor lock_;
};

}  // namespace finermoe
