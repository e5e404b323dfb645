#include "base/shared_library.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <sched.h>
#include <unistd.h>

#include <utility>
#include <vector>

#include "base/file.h"

namespace finermoe {
namespace {

// The calling thread may use one processor of those that it had, while this exists. If the system refuses to say which
// those are, all stays as it is.
class OneProcessor {
 public:
  OneProcessor() {
    constexpr size_t most = 1 << 14;  // more processors than any kernel knows
    for (size_t n = CPU_SETSIZE; all_.empty() && n <= most; n *= 2) {
      std::vector<cpu_set_t> all(n / CPU_SETSIZE);
      if (sched_getaffinity(0, bytes_of(all), all.data()) == 0) all_ = std::move(all);
    }
    std::vector<cpu_set_t> one(all_.size());
    for (size_t i = 0; i < all_.size() * CPU_SETSIZE; i++) {
      if (!CPU_ISSET_S(i, bytes_of(all_), all_.data())) continue;
      CPU_SET_S(i, bytes_of(one), one.data());
      break;
    }
    if (!all_.empty()) sched_setaffinity(0, bytes_of(one), one.data());
  }
  ~OneProcessor() {
    if (!all_.empty()) sched_setaffinity(0, bytes_of(all_), all_.data());
  }
  OneProcessor(const OneProcessor&) = delete;

 private:
  static size_t bytes_of(const std::vector<cpu_set_t>& set) { return set.size() * sizeof(cpu_set_t); }

  std::vector<cpu_set_t> all_;
};

Status not_loaded(const std::string& library) {
  const char* const error = dlerror();
  const std::string why = error == nullptr ? "unknown" : error;
  return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(library, " cannot be loaded: ", why), "a shared library",
                why);
}

}  // namespace

Result<SharedLibrary> SharedLibrary::open(const std::string& library) {
  auto mark = std::make_unique<ProcessMark>();
  void* const handle = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
  if (handle == nullptr) return not_loaded(library);
  return SharedLibrary(handle, std::move(mark));
}

Result<SharedLibrary> SharedLibrary::open_privately(const std::string& library) {
  auto mark = std::make_unique<ProcessMark>();
  const OneProcessor for_its_constructors;
  void* const handle = dlmopen(LM_ID_NEWLM, library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return not_loaded(library);
  return SharedLibrary(handle, std::move(mark));
}

SharedLibrary::SharedLibrary(void* handle, std::unique_ptr<const ProcessMark> mark)
    : handle_(handle), mark_(std::move(mark)) {}

SharedLibrary::SharedLibrary(SharedLibrary&& other) noexcept
    : handle_(std::exchange(other.handle_, nullptr)), mark_(std::move(other.mark_)) {}

// In a child of fork() the loader's lock may be held forever, and the library may wait for threads that are not there.
SharedLibrary::~SharedLibrary() {
  if (handle_ != nullptr && !mark_->is_inherited()) dlclose(handle_);
}

void* SharedLibrary::find(const char* symbol) const { return dlsym(handle_, symbol); }

Result<std::string> library_file(const std::string& path) {
  FM_TRY(File::open(path).status());  // gives a more precise error than the loader does
  return path.find('/') == path.npos ? "./" + path : path;
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
