#include "base/new_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace finermoe {
namespace {

constexpr uint64_t at_once = 8 << 20;         // bytes that are handed to the disk at a time
constexpr uint64_t write_behind = 256 << 20;  // bytes on their way to the disk before write() waits for the oldest

// An errno, or 0.
int sync_all(int fd) {
  return fsync(fd) == 0 || errno == EINVAL ? 0 : errno;  // EINVAL: the file system cannot sync this kind of file
}

}  // namespace

Status write_error(const char* what, const std::string& path, int error) {
  const Code code = error == ENOSPC || error == EDQUOT ? FINERMOE_ERROR_DISK_FULL
                    : error == EEXIST                  ? FINERMOE_ERROR_FILE_EXISTS
                                                       : FINERMOE_ERROR_FILE_WRITE;
  return Status(code, format_text("cannot ", what, " ", path, ": ", describe_errno(error)));
}

int sync_directory(const std::string& path) {
  const Descriptor directory = Descriptor::open(path.c_str(), O_RDONLY | O_DIRECTORY);
  return directory.valid() ? sync_all(directory.get()) : errno;
}

Result<NewFile> NewFile::create(const std::string& path) {
  NewFile file(Descriptor::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666), path);
  if (!file.descriptor_.valid()) return write_error("create", path, errno);
  return file;
}

Status NewFile::write(uint64_t offset, std::span<const std::byte> data) {
  while (!data.empty()) {
    const size_t most = std::min<size_t>(data.size(), 1 << 30);
    const ssize_t n = pwrite(descriptor_.get(), data.data(), most, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return write_error("write", name_, errno);
    offset += static_cast<uint64_t>(n);
    data = data.subspan(static_cast<size_t>(n));
  }
  hand_over(offset);
  return {};
}

// Starts writing out everything up to the last whole piece before `end`. Only advice: if the file system ignores it,
// sync() does the work.
void NewFile::hand_over(uint64_t end) {
  const uint64_t begin = handed_over_, whole = end / at_once * at_once;
  if (whole <= begin) return;
  const auto size = static_cast<off_t>(whole - begin);
  sync_file_range(descriptor_.get(), static_cast<off_t>(begin), size, SYNC_FILE_RANGE_WRITE);
  if (begin >= write_behind)
    sync_file_range(descriptor_.get(), static_cast<off_t>(begin - write_behind), size,
                    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  handed_over_ = whole;
}

Status NewFile::sync() {
  if (const int error = sync_all(descriptor_.get())) return write_error("write", name_, error);
  return {};
}

}  // namespace finermoe
