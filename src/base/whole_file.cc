#include "base/whole_file.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace finermoe {
namespace {

constexpr std::string_view partial_mark = ".partial-";
constexpr size_t random_digits = 16;
constexpr int most_links = 40;  // as the system itself

Status write_error(const std::string& path, int error) {
  return Status(error == ENOSPC || error == EDQUOT ? FINERMOE_ERROR_DISK_FULL : FINERMOE_ERROR_FILE_WRITE,
                cat("cannot write ", path, ": ", describe_errno(error)));
}

Status not_regular(const std::string& path, mode_t mode) {
  const char* found = S_ISDIR(mode)    ? "a directory"
                      : S_ISFIFO(mode) ? "a pipe"
                      : S_ISSOCK(mode) ? "a socket"
                      : S_ISREG(mode)  ? "a file without a name"
                                       : "a device";
  return Status(FINERMOE_ERROR_FILE_WRITE, cat("cannot write ", path, ": it is ", found, ", not a regular file"),
                "a regular file, or a name that is free", found);
}

// The path that is no symbolic link any more, whether or not something is there.
Result<std::string> follow_links(const std::string& path) {
  if (path.empty()) return write_error("\"\"", ENOENT);
  std::string at = path;
  for (int i = 0; i < most_links; i++) {
    char target[PATH_MAX];
    const ssize_t n = readlink(at.c_str(), target, sizeof target);
    if (n < 0 && (errno == EINVAL || errno == ENOENT)) return at;  // no link, or nothing
    if (n < 0) return write_error(path, errno);
    if (static_cast<size_t>(n) == sizeof target) return write_error(path, ENAMETOOLONG);
    const std::string next(target, static_cast<size_t>(n));
    at = next.starts_with('/') ? next : cat(directory_of(at), "/", next);
  }
  return write_error(path, ELOOP);
}

// A name that a WholeFile gave to a file on its way to `name`.
bool is_partial_of(std::string_view candidate, std::string_view prefix) {
  return candidate.size() == prefix.size() + random_digits && candidate.starts_with(prefix) &&
         candidate.find_first_not_of("0123456789abcdef", prefix.size()) == candidate.npos;
}

// Room for the mark in a name of the longest length that file systems take.
std::string partial_prefix(const std::string& name) {
  return cat(name.substr(0, NAME_MAX - partial_mark.size() - random_digits), partial_mark);
}

bool has_no_name(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && info.st_nlink == 0;
}

}  // namespace

Result<WholeFile> WholeFile::create(const std::string& path) {
  WholeFile file;
  struct stat there;
  FM_ASSIGN(file.path_, follow_links(path));
  file.replaces_ = stat(path.c_str(), &there) == 0;
  if (file.replaces_) {
    struct stat named;  // a link of /proc/self/fd can lead to what its text does not name
    if (!S_ISREG(there.st_mode) || stat(file.path_.c_str(), &named) != 0 || named.st_dev != there.st_dev ||
        named.st_ino != there.st_ino) {
      return not_regular(path, there.st_mode);
    }
  }
  file.remove_abandoned();
  FM_TRY(file.open_beside());
  if (file.replaces_) FM_TRY(file.keep_mode());
  return file;
}

// Without a name where the file system can do that: a process that is killed leaves nothing then. Otherwise, and for
// the moment between naming and renaming, under a name that the next writer to the same path recognises, and a lock
// that tells it that the writer lives.
Status WholeFile::open_beside() {
  const unsigned mode = replaces_ ? 0600 : 0666;  // an older file's mode comes before the first byte
  file_ = Descriptor::open(directory_of(path_).c_str(), O_TMPFILE | O_WRONLY, mode);
  if (file_.valid() && access(cat("/proc/self/fd/", file_.get()).c_str(), F_OK) == 0) {
    flock(file_.get(), LOCK_EX | LOCK_NB);
    return {};
  }
  for (int attempt = 0; attempt < 100; attempt++) {
    std::string name = partial_name();
    file_ = Descriptor::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
    if (!file_.valid() && errno == EEXIST) continue;
    if (!file_.valid()) return write_error(path_, errno);
    // Between the two calls another writer may have taken it for an abandoned one. A file system without locks has no
    // writer that removes anything.
    if ((flock(file_.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) || has_no_name(file_.get())) continue;
    partial_path_ = std::move(name);  // a copy could fail, and then nobody would know of the file
    return {};
  }
  return write_error(path_, EEXIST);
}

Status WholeFile::keep_mode() {
  struct stat old;
  if (stat(path_.c_str(), &old) != 0) return write_error(path_, errno);
  mode_t mode = old.st_mode & 07777;
  if (fchown(file_.get(), old.st_uid, old.st_gid) != 0 && fchown(file_.get(), static_cast<uid_t>(-1), old.st_gid) != 0)
    mode &= 0777;  // no rights of an owner that it does not have
  if (fchmod(file_.get(), mode) != 0) return write_error(path_, errno);
  return {};
}

std::string WholeFile::partial_name() const {
  uint64_t random = 0;
  while (getrandom(&random, sizeof random, 0) < 0 && errno == EINTR) continue;
  std::string digits(random_digits, '0');
  for (char& digit : digits) {
    digit = "0123456789abcdef"[random & 15];
    random >>= 4;
  }
  return cat(directory_of(path_), "/", partial_prefix(name_of(path_)), digits);
}

void WholeFile::remove_abandoned() const {
  const std::string directory = directory_of(path_), prefix = partial_prefix(name_of(path_));
  const DirectoryStream entries = read_directory(Descriptor::open(directory.c_str(), O_RDONLY | O_DIRECTORY));
  if (entries == nullptr) return;
  const int at = dirfd(entries.get());
  while (const dirent* entry = readdir(entries.get())) {
    if (!is_partial_of(entry->d_name, prefix)) continue;
    const Descriptor partial = Descriptor::open_at(at, entry->d_name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    struct stat info;
    if (partial.valid() && fstat(partial.get(), &info) == 0 && S_ISREG(info.st_mode) &&
        flock(partial.get(), LOCK_EX | LOCK_NB) == 0) {
      unlinkat(at, entry->d_name, 0);
    }
  }
}

WholeFile::WholeFile(WholeFile&& other) noexcept { *this = std::move(other); }

WholeFile& WholeFile::operator=(WholeFile&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(path_, other.path_);
  std::swap(partial_path_, other.partial_path_);
  std::swap(replaces_, other.replaces_);
  return *this;
}

WholeFile::~WholeFile() {
  if (file_.valid() && !partial_path_.empty()) unlink(partial_path_.c_str());
}

Status WholeFile::write(std::span<const std::byte> data) {
  while (!data.empty()) {
    const ssize_t n = ::write(file_.get(), data.data(), data.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return write_error(path_, errno);
    data = data.subspan(static_cast<size_t>(n));
  }
  return {};
}

Status WholeFile::commit() {
  if (fsync(file_.get()) != 0) return write_error(path_, errno);
  for (int attempt = 0; partial_path_.empty(); attempt++) {  // a random name that is taken is tried again
    const std::string own = cat("/proc/self/fd/", file_.get());
    std::string name = partial_name();
    if (linkat(AT_FDCWD, own.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      partial_path_ = std::move(name);  // a copy could fail, and then nobody would know of the file
    } else if (errno != EEXIST || attempt == 100) {
      return write_error(path_, errno);
    }
  }
  if (rename(partial_path_.c_str(), path_.c_str()) != 0) return write_error(path_, errno);
  partial_path_.clear();
  const Descriptor directory = Descriptor::open(directory_of(path_).c_str(), O_RDONLY | O_DIRECTORY);
  if (!directory.valid() || (fsync(directory.get()) != 0 && errno != EINVAL)) {
    return Status(
        FINERMOE_ERROR_FILE_WRITE,
        cat(path_, " is written, but its directory cannot be synced: it may not outlast a crash of the system"));
  }
  return {};
}

}  // namespace finermoe
