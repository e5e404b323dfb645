#include "convert/staging.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <vector>

#include "convert/replaceable.h"

namespace finermoe {
namespace {

namespace fs = std::filesystem;

constexpr char partial_mark[] = ".partial-";
constexpr uint64_t write_behind = 256 << 20;  // bytes on their way to the disk before write() waits for the oldest

std::string reason(int error) {
  char text[128];
  return strerror_r(error, text, sizeof text);
}

Status write_error(const char* what, const std::string& path, int error) {
  Code code = error == ENOSPC || error == EDQUOT ? FINERMOE_ERROR_DISK_FULL
              : error == EEXIST                  ? FINERMOE_ERROR_FILE_EXISTS
                                                 : FINERMOE_ERROR_FILE_WRITE;
  return Status(code, cat("cannot ", what, " ", path, ": ", reason(error)));
}

Status sync_directory(const std::string& path) {
  int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return write_error("open", path, errno);
  Status status;
  if (::fsync(fd) != 0) status = write_error("sync", path, errno);
  ::close(fd);
  return status;
}

// True if the lock on the directory is now held, and the directory is still the one at `path`.
bool lock_directory(int fd, const std::string& path) {
  struct stat opened, there;
  return ::flock(fd, LOCK_EX | LOCK_NB) == 0 && ::fstat(fd, &opened) == 0 && ::stat(path.c_str(), &there) == 0 &&
         opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
}

bool is_within(const fs::path& inner, const fs::path& outer) {
  return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first == outer.end();
}

}  // namespace

Result<OutputFile> OutputFile::create(const std::string& path) {
  OutputFile file;
  file.path_ = path;
  file.fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file.fd_ < 0) return write_error("create", path, errno);
  return file;
}

OutputFile::OutputFile(OutputFile&& other) noexcept { *this = std::move(other); }

OutputFile& OutputFile::operator=(OutputFile&& other) noexcept {
  std::swap(fd_, other.fd_);
  std::swap(path_, other.path_);
  return *this;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

Status OutputFile::write(uint64_t offset, const void* data, uint64_t size) {
  for (uint64_t done = 0; done < size;) {
    size_t most = static_cast<size_t>(std::min<uint64_t>(size - done, 1 << 30));
    ssize_t n = ::pwrite(fd_, static_cast<const char*>(data) + done, most, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return write_error("write", path_, errno);
    done += static_cast<uint64_t>(n);
  }
  // Advice: where the file system does not take it, sync() does all.
  ::sync_file_range(fd_, static_cast<off_t>(offset), static_cast<off_t>(size), SYNC_FILE_RANGE_WRITE);
  if (offset >= write_behind)
    ::sync_file_range(fd_, static_cast<off_t>(offset - write_behind), static_cast<off_t>(size),
                      SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
  return {};
}

Status OutputFile::sync() {
  if (::fsync(fd_) != 0) return write_error("sync", path_, errno);
  return {};
}

Result<Staging> Staging::plan(const std::string& out_path, const std::string& input_path, bool overwrite) {
  std::error_code error;
  std::string trimmed = out_path;
  while (trimmed.size() > 1 && trimmed.back() == '/') trimmed.pop_back();
  fs::path out = fs::weakly_canonical(fs::absolute(trimmed, error), error), input = fs::canonical(input_path, error);
  if (error) return Status(FINERMOE_ERROR_FILE_NOT_FOUND, cat("cannot find ", input_path, ": ", error.message()));
  if (out_path.empty() || !out.has_filename())
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, cat("\"", out_path, "\" cannot be an output"));
  if (is_within(out, input) || is_within(input, out))
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  cat("the output ", out_path, " and the input ", input_path, " lie in one another"),
                  "an output outside of the input", out_path);
  if (!fs::is_directory(out.parent_path(), error))
    return Status(FINERMOE_ERROR_FILE_NOT_FOUND,
                  cat("there is no directory ", out.parent_path().native(), " for the output ", out_path));
  if (fs::exists(fs::symlink_status(out, error))) {
    if (!overwrite) return Status(FINERMOE_ERROR_FILE_EXISTS, cat(out_path, " exists already"));
    FM_TRY(may_replace(out.native(), out_path, out.extension() == ".safetensors"));
  }
  Staging staging;
  staging.out_ = out.native();
  staging.single_file_ = out.extension() == ".safetensors";
  staging.overwrite_ = overwrite;
  return staging;
}

Staging::Staging(Staging&& other) noexcept
    : out_(std::move(other.out_)),
      directory_(std::exchange(other.directory_, {})),
      single_file_(other.single_file_),
      overwrite_(other.overwrite_),
      lock_(std::exchange(other.lock_, -1)) {}

Staging::~Staging() {
  std::error_code ignored;
  if (!directory_.empty()) fs::remove_all(directory_, ignored);
  if (lock_ >= 0) ::close(lock_);
}

void Staging::remove_abandoned() const {
  fs::path out(out_);
  std::string prefix = out.filename().native() + partial_mark;
  std::error_code error;
  std::vector<std::string> candidates;
  for (fs::directory_iterator entry(out.parent_path(), error), end; !error && entry != end; entry.increment(error))
    if (entry->path().filename().native().starts_with(prefix)) candidates.push_back(entry->path().native());
  for (const std::string& path : candidates) {
    int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) continue;
    if (lock_directory(fd, path)) fs::remove_all(path, error);
    ::close(fd);
  }
}

Status Staging::begin(uint64_t bytes) {
  remove_abandoned();
  std::string parent = fs::path(out_).parent_path().native();
  struct statvfs space;
  if (::statvfs(parent.c_str(), &space) != 0) return write_error("look at", parent, errno);
  uint64_t available = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (available < bytes)
    return Status(FINERMOE_ERROR_DISK_FULL,
                  cat("the output ", out_, " needs ", bytes, " bytes, and ", available, " are available"),
                  cat(bytes, " bytes"), cat(available, " bytes"));
  // Between mkdtemp and flock another writer may take the new directory for an abandoned one: try again then.
  for (int attempt = 0; attempt < 100 && directory_.empty(); ++attempt) {
    std::string name = out_ + partial_mark + "XXXXXX";
    if (!::mkdtemp(name.data())) return write_error("create", name, errno);
    lock_ = ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (lock_ >= 0 && lock_directory(lock_, name)) {
      directory_ = name;
    } else if (lock_ >= 0) {
      ::close(std::exchange(lock_, -1));
    }
  }
  if (directory_.empty()) return Status(FINERMOE_ERROR_FILE_WRITE, cat("cannot lock a directory beside ", out_));
  if (!single_file_ && ::mkdir(contents().c_str(), 0777) != 0) return write_error("create", contents(), errno);
  return {};
}

Result<OutputFile> Staging::create(const std::string& name) const {
  return OutputFile::create(single_file_ ? contents() : contents() + "/" + name);
}

Status Staging::publish(const std::string& last_name, const std::string& content) {
  if (!single_file_) {
    std::string waiting = directory_ + "/last";
    FM_ASSIGN(OutputFile last, OutputFile::create(waiting));
    FM_TRY(last.write(0, content.data(), content.size()));
    FM_TRY(last.sync());
    FM_TRY(sync_directory(contents()));
    // From here to the end of replace(), two calls away, the whole model is beside OUT.
    std::string place = contents() + "/" + last_name;
    if (::rename(waiting.c_str(), place.c_str()) != 0) return write_error("rename", waiting, errno);
  }
  FM_TRY(replace());
  // Where an older model came back in exchange: without its configuration first, so that half of it never opens.
  if (!single_file_) ::unlink((contents() + "/" + last_name).c_str());
  if (!single_file_) FM_TRY(sync_directory(out_));
  return sync_directory(fs::path(out_).parent_path().native());
}

Status Staging::replace() {
  std::string from = contents();
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, out_.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno == EEXIST && overwrite_) {  // the old one comes into the staging directory and goes with it
    if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) == 0) return {};
  }
  if (errno != EINVAL) return write_error("put in place", out_, errno);
  // A file system without these two (some network ones): the old one aside, the new one in.
  std::string aside = directory_ + "/old";
  std::error_code error;
  bool exists = fs::exists(fs::symlink_status(out_, error));
  if (exists && !overwrite_) return write_error("put in place", out_, EEXIST);
  if (exists && ::rename(out_.c_str(), aside.c_str()) != 0) return write_error("move aside", out_, errno);
  if (::rename(from.c_str(), out_.c_str()) == 0) return {};
  Status status = write_error("put in place", out_, errno);
  if (exists && ::rename(aside.c_str(), out_.c_str()) != 0) {
    directory_.clear();  // it holds the old one: leave it to a person
    return write_error("move back to its place", aside, errno);
  }
  return status;
}

}  // namespace finermoe
