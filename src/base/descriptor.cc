#include "base/descriptor.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/status.h"

namespace finermoe {

Descriptor Descriptor::above_standard(int fd) {
  if (fd < 0 || fd > STDERR_FILENO) return Descriptor(fd);
  const int moved = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
  const int error = errno;
  close(fd);
  errno = error;
  return Descriptor(moved);
}

Descriptor Descriptor::open(const char* path, int flags, unsigned mode) {
  return above_standard(::open(path, flags | O_CLOEXEC, mode));
}

Descriptor Descriptor::open_at(int directory, const char* name, int flags, unsigned mode) {
  return above_standard(::openat(directory, name, flags | O_CLOEXEC, mode));
}

Descriptor Descriptor::duplicate(int fd) { return Descriptor(fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1)); }

Descriptor::~Descriptor() {
  if (fd_ < 0) return;
  const int error = errno;  // the caller may not have read it yet
  close(fd_);
  errno = error;
}

DirectoryStream read_directory(Descriptor directory) {
  DirectoryStream stream(directory.valid() ? fdopendir(directory.get()) : nullptr);
  if (stream != nullptr) directory.release();
  return stream;
}

std::string directory_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == path.npos ? "." : path.substr(0, std::max<size_t>(slash, 1));
}

std::string name_of(const std::string& path) { return path.substr(path.rfind('/') + 1); }

std::string describe_errno(int error) {
  const char* text = strerrordesc_np(error);  // unlike strerror: thread-safe, and not in the host's language
  return text != nullptr ? std::string(text) : format_text("error ", error);
}

std::string read_system_file(const char* path) {
  std::string text;
  const Descriptor file = Descriptor::open(path, O_RDONLY);
  char part[4096];
  for (ssize_t n = 1; file.valid() && n != 0;) {
    n = read(file.get(), part, sizeof part);
    if (n < 0 && errno != EINTR) break;
    if (n > 0) text.append(part, static_cast<size_t>(n));
  }
  return text;
}

}  // namespace finermoe
