// The files that commands write: --out, --svg.
#pragma once

#include <optional>
#include <string>

#include "base/atomic_file.h"

namespace tool {

// A regular file appears once it is complete (base/atomic_file.h). A pipe, a device or a descriptor (/dev/stdout,
// /dev/fd/3, "-") is written to directly.
class OutputFile {
 public:
  explicit OutputFile(const std::string& path);  // throws Failure, as do the next two
  void write(const void* data, size_t size);
  void finish();  // without it, an existing file stays

 private:
  std::optional<finermoe::AtomicFile> file_;
  finermoe::Descriptor as_it_is_;  // if there is no file_
  std::string path_;
};

}  // namespace tool
