#include "base/whole_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

namespace finermoe {
namespace {

Status write_error(const std::string& path, int error) {
  return Status(error == ENOSPC || error == EDQUOT ? FINERMOE_ERROR_DISK_FULL : FINERMOE_ERROR_FILE_WRITE,
                cat("cannot write ", path, ": ", std::generic_category().message(error)));
}

}  // namespace

Result<WholeFile> WholeFile::create(const std::string& path) {
  WholeFile file;
  file.path_ = path;
  for (int attempt = 0; attempt < 100; attempt++) {  // a random name that is taken is tried again
    uint64_t random = 0;
    if (getrandom(&random, sizeof random, 0) != sizeof random) return write_error(path, errno);
    file.partial_path_ = cat(path, ".partial-", random);
    file.fd_ = open(file.partial_path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (file.fd_ >= 0) return file;
    if (errno != EEXIST) break;
  }
  return write_error(path, errno);
}

WholeFile::WholeFile(WholeFile&& other) noexcept { *this = std::move(other); }

WholeFile& WholeFile::operator=(WholeFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  std::swap(partial_path_, other.partial_path_);
  return *this;
}

WholeFile::~WholeFile() {
  if (fd_ < 0) return;
  close(fd_);
  unlink(partial_path_.c_str());
}

Status WholeFile::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(fd_, data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return write_error(path_, errno);
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status WholeFile::commit() {
  if (fsync(fd_) != 0 || rename(partial_path_.c_str(), path_.c_str()) != 0) return write_error(path_, errno);
  close(fd_);
  fd_ = -1;
  return {};
}

}  // namespace finermoe
