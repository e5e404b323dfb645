// Shared libraries that are opened at run time.
#pragma once

#include <memory>
#include <string>

#include "base/process_mark.h"
#include "base/status.h"

namespace finermoe {

class SharedLibrary {
 public:
  // By a path, or by a name that the system looks for. The library stays loaded for as long as the process lives:
  // whatever came from it stays valid. FILE_UNREADABLE; found() is what the system says.
  static Result<SharedLibrary> open(const std::string& library);
  // A copy of the library, and of all that it needs, in a namespace of its own: neither does it see what else the
  // process has loaded, nor is it seen. It is closed with this object. A library that starts a thread for each
  // processor when it is loaded finds one processor, and so starts none.
  static Result<SharedLibrary> open_privately(const std::string& library);
  SharedLibrary(SharedLibrary&& other) noexcept;
  ~SharedLibrary();

  // The address of a symbol, or null where the library lacks it.
  void* find(const char* symbol) const;

 private:
  SharedLibrary(void* handle, std::unique_ptr<const ProcessMark> mark);
  void* handle_;
  std::unique_ptr<const ProcessMark> mark_;  // of the process that is to close it
};

// Fills a table of functions with those of a library.
class FunctionsOf {
 public:
  explicit FunctionsOf(const SharedLibrary& library) : library_(library) {}
  template <class Function>
  void fill(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(library_.find(name));
    if (function == nullptr && missing_ == nullptr) missing_ = name;
  }
  // The first function that the library lacks, or null.
  const char* missing() const { return missing_; }

 private:
  const SharedLibrary& library_;
  const char* missing_ = nullptr;
};

// The path of a file as SharedLibrary takes it: never looked for elsewhere. FILE_NOT_FOUND, or FILE_UNREADABLE.
Result<std::string> library_file(const std::string& path);

// The folder of the library or program that the code at an address was loaded from; empty where the system does not
// know it in full.
std::string folder_of_code(const void* address);

}  // namespace finermoe
