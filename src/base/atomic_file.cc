#include "base/atomic_file.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

namespace finermoe {
namespace {

constexpr size_t random_digits = 16;
constexpr int most_links = 40;  // the kernel's own limit
constexpr int most_attempts = 100;

Status not_regular(const std::string& path, mode_t mode) {
  const char* found = S_ISDIR(mode)    ? "a directory"
                      : S_ISFIFO(mode) ? "a pipe"
                      : S_ISSOCK(mode) ? "a socket"
                      : S_ISREG(mode)  ? "a file without a name"
                                       : "a device";
  return Status(FINERMOE_ERROR_FILE_WRITE,
                format_text("cannot write ", path, ": it is ", found, ", not a regular file"),
                "a regular file, or a name that is free", found);
}

// The path after following all symbolic links, whether or not it exists.
Result<std::string> follow_links(const std::string& path) {
  if (path.empty()) return write_error("write", "\"\"", ENOENT);
  std::string at = path;
  for (int i = 0; i < most_links; i++) {
    char target[PATH_MAX];
    const ssize_t n = readlink(at.c_str(), target, sizeof target);
    if (n < 0 && (errno == EINVAL || errno == ENOENT)) return at;  // not a link, or nothing there
    if (n < 0) return write_error("write", path, errno);
    if (static_cast<size_t>(n) == sizeof target) return write_error("write", path, ENAMETOOLONG);
    const std::string next(target, static_cast<size_t>(n));
    at = next.starts_with('/') ? next : format_text(directory_of(at), "/", next);
  }
  return write_error("write", path, ELOOP);
}

// Whether `candidate` is a temporary name that an AtomicFile made from `prefix`.
bool is_partial_of(std::string_view candidate, std::string_view prefix) {
  return candidate.size() == prefix.size() + random_digits && candidate.starts_with(prefix) &&
         candidate.find_first_not_of("0123456789abcdef", prefix.size()) == candidate.npos;
}

// Leaves room for the mark within the longest file name that file systems allow.
std::string partial_prefix(const std::string& name) {
  return format_text(name.substr(0, NAME_MAX - partial_mark.size() - random_digits), partial_mark);
}

std::string own_link(const Descriptor& descriptor) { return format_text("/proc/self/fd/", descriptor.get()); }

bool has_no_name(int fd) {
  struct stat info;
  return fstat(fd, &info) == 0 && info.st_nlink == 0;
}

}  // namespace

bool AtomicFile::is_replaceable(const std::string& path) {
  struct stat there, named;  // a link in /proc/self/fd can lead to a file other than the one its text names
  if (stat(path.c_str(), &there) != 0) return true;
  const Result<std::string> target = follow_links(path);
  return S_ISREG(there.st_mode) && target.ok() && stat(target->c_str(), &named) == 0 && named.st_dev == there.st_dev &&
         named.st_ino == there.st_ino;
}

Result<AtomicFile> AtomicFile::create(const std::string& path, Older older) {
  AtomicFile file;
  struct stat there;
  file.shown_ = path;
  file.older_ = older;
  FM_ASSIGN(file.path_, follow_links(path));
  file.replaces_ = stat(path.c_str(), &there) == 0;
  if (file.replaces_ && older == Older::refused) return write_error("write", path, EEXIST);
  if (file.replaces_ && !is_replaceable(path)) return not_regular(path, there.st_mode);
  file.remove_abandoned();
  FM_TRY(file.open_beside());
  if (file.replaces_) FM_TRY(file.keep_mode());
  return file;
}

// Opens an unnamed file (O_TMPFILE) if the file system supports it, so that a killed process leaves nothing behind.
// Otherwise, and for the moment between naming and renaming, the file has a name that the next writer to the same path
// recognizes, and a lock that shows that its writer is alive.
Status AtomicFile::open_beside() {
  const unsigned mode = replaces_ ? 0600 : 0666;  // an existing file's mode is set before the first byte is written
  Descriptor opened = Descriptor::open(directory_of(path_).c_str(), O_TMPFILE | O_WRONLY, mode);
  if (opened.valid() && access(own_link(opened).c_str(), F_OK) == 0) {
    flock(opened.get(), LOCK_EX | LOCK_NB);
    file_ = NewFile(std::move(opened), shown_);
    return {};
  }
  for (int attempt = 0; attempt < most_attempts; attempt++) {
    std::string name = partial_name();
    opened = Descriptor::open(name.c_str(), O_WRONLY | O_CREAT | O_EXCL, mode);
    if (!opened.valid() && errno == EEXIST) continue;
    if (!opened.valid()) return write_error("create", shown_, errno);
    // Between the two calls another writer may have taken the file for an abandoned one. On a file system without locks
    // no writer removes anything.
    if ((flock(opened.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) || has_no_name(opened.get())) continue;
    partial_path_ = std::move(name);  // a copy could fail, and then nobody would know of the file
    file_ = NewFile(std::move(opened), shown_);
    return {};
  }
  return write_error("create", shown_, EEXIST);
}

Status AtomicFile::keep_mode() {
  struct stat old;
  const int fd = file_.descriptor().get();
  if (stat(path_.c_str(), &old) != 0) return write_error("write", shown_, errno);
  mode_t mode = old.st_mode & 07777;
  if (fchown(fd, old.st_uid, old.st_gid) != 0 && fchown(fd, static_cast<uid_t>(-1), old.st_gid) != 0)
    mode &= 0777;  // no setuid or setgid for an owner that may not be ours
  if (fchmod(fd, mode) != 0) return write_error("write", shown_, errno);
  return {};
}

std::string AtomicFile::partial_name() const {
  uint64_t random = 0;
  while (getrandom(&random, sizeof random, 0) < 0 && errno == EINTR) continue;
  std::string digits(random_digits, '0');
  for (char& digit : digits) {
    digit = "0123456789abcdef"[random & 15];
    random >>= 4;
  }
  return format_text(directory_of(path_), "/", partial_prefix(name_of(path_)), digits);
}

void AtomicFile::remove_abandoned() const {
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

AtomicFile::AtomicFile(AtomicFile&& other) noexcept { *this = std::move(other); }

AtomicFile& AtomicFile::operator=(AtomicFile&& other) noexcept {
  std::swap(file_, other.file_);
  std::swap(shown_, other.shown_);
  std::swap(path_, other.path_);
  std::swap(partial_path_, other.partial_path_);
  std::swap(size_, other.size_);
  std::swap(older_, other.older_);
  std::swap(replaces_, other.replaces_);
  return *this;
}

AtomicFile::~AtomicFile() {
  if (!partial_path_.empty()) unlink(partial_path_.c_str());
}

Status AtomicFile::write(std::span<const std::byte> data) {
  FM_TRY(file_.write(size_, data));
  size_ += data.size();
  return {};
}

Status AtomicFile::give_name() {
  const std::string own = own_link(file_.descriptor());
  for (int attempt = 0; attempt < most_attempts; attempt++) {
    std::string name = partial_name();
    if (linkat(AT_FDCWD, own.c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) == 0) {
      partial_path_ = std::move(name);  // a copy could fail, and then nobody would know of the file
      return {};
    }
    if (errno != EEXIST) break;
  }
  return write_error("create", shown_, errno);
}

// If the file system cannot rename without replacing (some network ones), checks for an existing file first. An errno,
// or 0.
int AtomicFile::rename_to_free_place() const {
  const char *const from = partial_path_.c_str(), *const to = path_.c_str();
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL) return errno;
  if (access(to, F_OK) == 0) return EEXIST;
  return rename(from, to) == 0 ? 0 : errno;
}

Status AtomicFile::commit() {
  FM_TRY(file_.sync());
  if (partial_path_.empty()) FM_TRY(give_name());
  const int error = older_ == Older::refused                            ? rename_to_free_place()
                    : rename(partial_path_.c_str(), path_.c_str()) == 0 ? 0
                                                                        : errno;
  if (error != 0) return write_error("write", shown_, error);
  partial_path_.clear();
  if (sync_directory(directory_of(path_)) == 0) return {};
  return Status(
      FINERMOE_ERROR_FILE_WRITE,
      format_text(shown_, " is written, but its directory cannot be synced: it may not outlast a crash of the system"));
}

}  // namespace finermoe
