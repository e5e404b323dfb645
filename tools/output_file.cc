#include "output_file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "common.h"

namespace tool {

namespace {

constexpr int kMostLinks = 40;  // as the system itself

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

// N of /dev/fd/N and /proc/self/fd/N; -1 for other paths.
int own_descriptor(const std::string& path) {
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (path.compare(0, prefix.size(), prefix) != 0) continue;
    int number = -1;
    const char* const end = path.data() + path.size();
    const auto [stop, error] = std::from_chars(path.data() + prefix.size(), end, number);
    if (error == std::errc() && stop == end) return number;
  }
  return -1;
}

bool is_same_file(const std::string& path, const struct stat& expected) {
  struct stat found {};
  return stat(path.c_str(), &found) == 0 && found.st_dev == expected.st_dev && found.st_ino == expected.st_ino;
}

}  // namespace

OutputFile::OutputFile(std::string path) : path_(std::move(path)) {
  std::string at = path_ == "-" ? "/dev/fd/1" : path_;
  for (int i = 0; i < kMostLinks && own_descriptor(at) < 0; ++i) {
    char link[PATH_MAX];
    const ssize_t n = readlink(at.c_str(), link, sizeof link);
    if (n < 0 || n == sizeof link) break;  // not a link, or nothing there
    const std::string next(link, static_cast<size_t>(n));
    at = next[0] == '/' ? next : directory_of(at) + "/" + next;
  }
  if (const int number = own_descriptor(at); number >= 0) {
    descriptor_ = fcntl(number, F_DUPFD_CLOEXEC, 3);  // with its position, which a second opening would not have
    if (descriptor_ < 0) fail("write");
    return;
  }
  struct stat there {};
  const bool exists = stat(path_.c_str(), &there) == 0;
  if (!exists && errno != ENOENT) fail("write");
  if (exists && (!S_ISREG(there.st_mode) || !is_same_file(at, there))) {  // or a file without a name
    open_as_it_is(O_WRONLY | (S_ISREG(there.st_mode) ? O_TRUNC : 0));
    return;
  }
  target_ = std::move(at);
  open_beside(exists ? 0600 : 0666);
  if (!exists) return;
  mode_t mode = there.st_mode & 07777;
  if (fchown(descriptor_, there.st_uid, there.st_gid) != 0 &&
      fchown(descriptor_, static_cast<uid_t>(-1), there.st_gid) != 0) {
    mode &= 0777;  // no rights of an owner that it does not have
  }
  if (fchmod(descriptor_, mode) != 0) fail("write");
}

OutputFile::~OutputFile() {
  if (descriptor_ >= 0) close(descriptor_);
  if (!partial_.empty()) unlink(partial_.c_str());
}

void OutputFile::open_as_it_is(int flags) {
  descriptor_ = open(path_.c_str(), flags | O_CLOEXEC | O_NOCTTY);  // of a pipe: waits for its reader
  if (descriptor_ < 0) fail("write");
}

// Without a name where the file system can do that, so that a command that is killed leaves nothing.
void OutputFile::open_beside(unsigned mode) {
  descriptor_ = open(directory_of(target_).c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, mode);
  if (descriptor_ >= 0 && access(("/proc/self/fd/" + std::to_string(descriptor_)).c_str(), F_OK) == 0) return;
  if (descriptor_ >= 0) close(std::exchange(descriptor_, -1));
  std::string name = target_ + ".XXXXXX";
  descriptor_ = mkostemp(name.data(), O_CLOEXEC);
  if (descriptor_ < 0) fail("create");
  partial_ = name;
  const mode_t mask = umask(0);  // mkostemp gives 0600; the user asked for an ordinary file
  umask(mask);
  fchmod(descriptor_, mode & ~mask);
}

void OutputFile::name_partial() {
  const std::string self = "/proc/self/fd/" + std::to_string(descriptor_);
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string name = target_ + ".XXXXXX";
    const int placeholder = mkostemp(name.data(), O_CLOEXEC);  // a name that is free
    if (placeholder < 0) fail("create");
    close(placeholder);
    unlink(name.c_str());
    if (linkat(AT_FDCWD, self.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      partial_ = name;
      return;
    }
    if (errno != EEXIST) break;
  }
  fail("create");
}

void OutputFile::fail(const char* what) const {
  const int error = errno;
  throw_if_interrupted();
  throw Failure(kError, std::string("cannot ") + what + " " + path_ + ": " + std::strerror(error));
}

void OutputFile::write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, bytes, size);
    if (written < 0 && errno == EINTR) throw_if_interrupted();
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail("write");
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void OutputFile::finish() {
  if (!target_.empty()) {
    if (fsync(descriptor_) != 0 && errno != EINVAL) fail("write");
    if (partial_.empty()) name_partial();
    if (rename(partial_.c_str(), target_.c_str()) != 0) fail("write");
    partial_.clear();
  }
  if (close(std::exchange(descriptor_, -1)) != 0) fail("write");
}

}  // namespace tool
