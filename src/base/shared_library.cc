#include "base/shared_library.h"

#include <dlfcn.h>

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

}  // namespace finermoe
