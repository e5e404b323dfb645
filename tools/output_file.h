// The files that commands write: --out, --svg.
#pragma once

#include <string>

namespace tool {

// A regular file appears when it is whole: what was there keeps its mode, a symbolic link is followed and stays. A
// pipe, a device or a descriptor (/dev/stdout, /dev/fd/3, "-") is written to as it is.
class OutputFile {
 public:
  explicit OutputFile(std::string path);  // throws Failure, as do the next two
  ~OutputFile();                          // without finish(): what was there stays
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t size);
  void finish();

 private:
  void open_as_it_is(int flags);
  void open_beside(unsigned mode);
  void name_partial();
  [[noreturn]] void fail(const char* what) const;

  std::string path_;     // as the user gave it
  std::string target_;   // of a regular file: where it goes, links followed; empty: written as it is
  std::string partial_;  // where it is until then; empty while it has no name
  int descriptor_ = -1;
};

}  // namespace tool
