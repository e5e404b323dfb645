#include "output_file.h"

#include <fcntl.h>
#include <limits.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

#include "failure.h"
#include "interrupt.h"

namespace tool {

using finermoe::AtomicFile;
using finermoe::Descriptor;

namespace {

constexpr int kMostLinks = 40;  // the kernel's own limit

// N of /dev/fd/N and /proc/self/fd/N; -1 for other paths.
int descriptor_in(const std::string& path) {
  for (const std::string_view prefix : {"/dev/fd/", "/proc/self/fd/"}) {
    if (path.compare(0, prefix.size(), prefix) != 0) continue;
    int number = -1;
    const char* const end = path.data() + path.size();
    const auto [stop, error] = std::from_chars(path.data() + prefix.size(), end, number);
    if (error == std::errc() && stop == end) return number;
  }
  return -1;
}

// The descriptor of this process that a path names, directly or through symbolic links; -1 if none.
int own_descriptor(const std::string& path) {
  std::string at = path == "-" ? "/dev/fd/1" : path;
  for (int i = 0; i < kMostLinks && descriptor_in(at) < 0; ++i) {
    char link[PATH_MAX];
    const ssize_t n = readlink(at.c_str(), link, sizeof link);
    if (n < 0 || n == sizeof link) break;  // not a link, or nothing there
    const std::string next(link, static_cast<size_t>(n));
    at = next[0] == '/' ? next : finermoe::directory_of(at).append("/").append(next);
  }
  return descriptor_in(at);
}

// Throws if it is an error.
void check(const finermoe::Status& status) {
  if (status.ok()) return;
  throw_if_interrupted();
  throw Failure(kError, status.message());
}

}  // namespace

OutputFile::OutputFile(const std::string& path) : path_(path) {
  if (const int number = own_descriptor(path); number >= 0) {
    as_it_is_ = Descriptor::duplicate(number);  // shares its file position, which reopening would not
  } else if (AtomicFile::is_replaceable(path)) {
    finermoe::Result<AtomicFile> file = AtomicFile::create(path);
    check(file.status());
    file_ = std::move(*file);
    return;
  } else {
    as_it_is_ = Descriptor::open(path.c_str(), O_WRONLY | O_TRUNC | O_NOCTTY);  // for a pipe: waits for its reader
  }
  if (!as_it_is_.valid()) check(finermoe::write_error("write", path, errno));
}

void OutputFile::write(const void* data, size_t size) {
  const char* bytes = static_cast<const char*>(data);
  if (file_) return check(file_->write(std::as_bytes(std::span(bytes, size))));
  while (size > 0) {
    const ssize_t written = ::write(as_it_is_.get(), bytes, size);
    if (written < 0 && errno == EINTR) {
      throw_if_interrupted();
      continue;
    }
    if (written < 0) return check(finermoe::write_error("write", path_, errno));
    bytes += written;
    size -= static_cast<size_t>(written);
  }
}

void OutputFile::finish() {
  if (file_) return check(file_->commit());
  if (close(as_it_is_.release()) != 0) check(finermoe::write_error("write", path_, errno));
}

}  // namespace tool
