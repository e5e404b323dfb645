// Where a writer puts its output: in a directory beside the destination until it is complete.
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

// One output, a directory or a single file. A single file is an AtomicFile. Until publish(), a directory is inside a
// directory OUT.partial-XXXXXX, which is locked while its writer is alive and removed by the destructor; what a killed
// writer left behind is removed by the next one, if the file system has locks. The exception is an older model that was
// moved aside and not yet replaced: it is restored.
class Staging {
 public:
  // Only checks, and changes nothing except to restore what a killed writer had moved aside: FILE_EXISTS, or
  // INVALID_ARGUMENT if OUT is the input, inside it or contains it.
  static Result<Staging> plan(const std::string& out_path, const std::string& input_path, bool overwrite);
  Staging(Staging&& other) noexcept;
  Staging(const Staging&) = delete;
  ~Staging();

  // `bytes` is how much will be written; DISK_FULL if the file system has less.
  Status begin(uint64_t bytes);
  bool is_single_file() const { return single_file_; }
  // A file of the result, valid until the next call; for a single file the name is ignored.
  Result<NewFile*> create(const std::string& name);
  // Writes `last_name` with its content as the last file of a directory (a single file has none), and moves the result
  // to OUT. If an error occurs after that, its message says that OUT is the new model.
  Status publish(const std::string& last_name, const std::string& content);

 private:
  Staging() = default;
  Status make_directory();
  Status replace();
  Status settle(const std::string& last_name) const;
  std::string out_;
  bool single_file_ = false, overwrite_ = false;
  std::optional<AtomicFile> single_;  // the output, if it is one file
  NewFile file_;                      // of a directory: the one being written
  std::string directory_, contents_;  // OUT.partial-XXXXXX and the result in it; empty before begin()
  std::vector<std::string> made_;     // files in them: the destructor cannot allocate memory to search for them
  Descriptor lock_;
};

}  // namespace finermoe
