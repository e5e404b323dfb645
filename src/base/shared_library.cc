#include "base/shared_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <unistd.h>

#include "base/file.h"

namespace finermoe {

Result<void*> find_in_library(const std::string& path, const char* symbol) {
  FM_TRY(File::open(path).status());  // gives a more precise error than the loader does
  // A path without a slash would be looked for in the system's folders.
  const std::string exact = path.find('/') == path.npos ? "./" + path : path;
  void* const library = dlopen(exact.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (library == nullptr) {
    const char* const why = dlerror();
    return Status(FINERMOE_ERROR_FILE_UNREADABLE,
                  format_text(path, " cannot be loaded: ", why == nullptr ? "unknown" : why), "a shared library", path);
  }
  void* const found = dlsym(library, symbol);
  dlclose(library);  // it stays loaded: it was opened with RTLD_NODELETE
  return found;
}

std::string folder_of_code(const void* address) {
  Dl_info info{};
  void* found = nullptr;
  if (dladdr1(address, &info, &found, RTLD_DL_LINKMAP) == 0 || found == nullptr) return {};
  std::string path = static_cast<const link_map*>(found)->l_name;
  if (path.empty()) {  // the program; the name that it was started by could be any
    char target[PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", target, sizeof target);
    if (length > 0 && static_cast<size_t>(length) < sizeof target) path.assign(target, static_cast<size_t>(length));
  }
  // Another path began in what was the current folder then.
  return path.empty() || path[0] != '/' ? std::string() : path.substr(0, path.rfind('/'));
}

}  // namespace finermoe
