#include "convert/staging.h"

#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "convert/replaceable.h"

namespace finermoe {
namespace {

// Removes the entry of this name in a directory, recursively. An errno, or 0.
int remove_tree(int parent, const char* name) {
  if (::unlinkat(parent, name, 0) == 0) return 0;
  if (errno != EISDIR && errno != EPERM) return errno;
  const DirectoryStream entries =
      read_directory(Descriptor::open_at(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (entries == nullptr) return errno;
  int error = 0;
  while (const dirent* entry = readdir(entries.get())) {
    const std::string_view inside = entry->d_name;
    if (inside == "." || inside == "..") continue;
    const int failed = remove_tree(dirfd(entries.get()), entry->d_name);
    if (error == 0) error = failed;
  }
  if (::unlinkat(parent, name, AT_REMOVEDIR) == 0) return 0;
  return error != 0 ? error : errno;
}

Status cannot_look_at(const std::string& out, int error) {
  return Status(FINERMOE_ERROR_FILE_UNREADABLE,
                format_text("cannot look at the output ", out, ": ", describe_errno(error)));
}

// Definitely absent: false also if the system cannot tell.
bool is_absent(const std::string& path) {
  struct stat info;
  return ::lstat(path.c_str(), &info) != 0 && errno == ENOENT;
}

// What kind of file OUT is; nullopt if it does not exist.
Result<std::optional<mode_t>> mode_of(const std::string& out) {
  struct stat info;
  if (::lstat(out.c_str(), &info) == 0) return std::optional(info.st_mode);
  if (errno == ENOENT) return std::optional<mode_t>();
  return cannot_look_at(out, errno);
}

// The path without links, "." and ".."; nullopt and errno if it does not exist.
std::optional<std::string> real_path(const std::string& path) {
  char resolved[PATH_MAX];
  if (::realpath(path.c_str(), resolved) == nullptr) return std::nullopt;
  return resolved;
}

// The same for a path whose last component may not exist yet.
Result<std::string> place_of(const std::string& out_path) {
  std::string path = out_path;
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  const std::string name = name_of(path), parent = directory_of(path);
  if (name.empty())
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("\"", out_path, "\" cannot be an output"));
  if (std::optional<std::string> place = real_path(path)) return *place;
  const int error = errno;
  std::optional<std::string> directory = real_path(format_text(parent, "/"));
  if (!directory && (errno == ENOENT || errno == ENOTDIR)) {
    return Status(FINERMOE_ERROR_FILE_NOT_FOUND,
                  format_text("there is no directory ", parent, " for the output ", out_path));
  }
  if (!directory || error != ENOENT) {
    return cannot_look_at(out_path, directory ? error : errno);
  }
  return *directory == "/" ? format_text("/", name) : format_text(*directory, "/", name);
}

bool is_within(const std::string& inner, const std::string& outer) {
  return inner == outer || outer == "/" || inner.starts_with(format_text(outer, "/"));
}

enum class Lock { held, refused, unsupported };

// Held only if the directory is still the one at `path`. Unsupported on a file system without locks, or if the system
// cannot tell.
Lock lock_directory(const Descriptor& directory, const std::string& path) {
  struct stat opened, there;
  if (::flock(directory.get(), LOCK_EX | LOCK_NB) != 0) {
    return errno == EWOULDBLOCK ? Lock::refused : Lock::unsupported;
  }
  if (::fstat(directory.get(), &opened) != 0) return Lock::unsupported;
  if (::lstat(path.c_str(), &there) != 0) return errno == ENOENT ? Lock::refused : Lock::unsupported;
  const bool is_same = opened.st_ino == there.st_ino && opened.st_dev == there.st_dev;
  return is_same ? Lock::held : Lock::refused;
}

// Calls `handle` with each directory that a killed writer to `out` left behind, while it is locked.
template <class Handle>
void for_each_abandoned(const std::string& out, Handle handle) {
  const std::string parent = directory_of(out), prefix = format_text(name_of(out), partial_mark);
  const DirectoryStream entries = read_directory(Descriptor::open(parent.c_str(), O_RDONLY | O_DIRECTORY));
  if (entries == nullptr) return;
  std::vector<std::string> paths;
  while (const dirent* entry = readdir(entries.get())) {
    if (std::string_view(entry->d_name).starts_with(prefix)) paths.push_back(format_text(parent, "/", entry->d_name));
  }
  for (const std::string& path : paths) {
    const Descriptor directory = Descriptor::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (directory.valid() && lock_directory(directory, path) == Lock::held) handle(path);
  }
}

// Where Staging::replace() moves the older model for a moment, on file systems that cannot exchange two.
std::string aside_in(const std::string& directory) { return directory + "/old"; }
std::string contents_in(const std::string& directory) { return directory + "/contents"; }

void bring_back(const std::string& out) {
  for_each_abandoned(out, [&](const std::string& directory) {
    if (is_absent(out)) ::rename(aside_in(directory).c_str(), out.c_str());
  });
}

// An older model that was not replaced yet may be the only copy: it stays.
void remove_abandoned(const std::string& out) {
  for_each_abandoned(out, [](const std::string& directory) {
    const bool is_replaced = is_absent(aside_in(directory)) || is_absent(contents_in(directory));
    if (is_replaced) remove_tree(AT_FDCWD, directory.c_str());
  });
}

}  // namespace

Result<Staging> Staging::plan(const std::string& out_path, const std::string& input_path, bool overwrite) {
  const std::optional<std::string> input = real_path(input_path);
  if (!input)
    return Status(FINERMOE_ERROR_FILE_NOT_FOUND, format_text("cannot find ", input_path, ": ", describe_errno(errno)));
  FM_ASSIGN(std::string out, place_of(out_path));
  if (is_within(out, *input) || is_within(*input, out))
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("the output ", out_path, " and the input ", input_path, " lie in one another"),
                  "an output outside of the input", out_path);
  const bool single_file = out.ends_with(".safetensors");
  if (!single_file) bring_back(out);
  FM_ASSIGN(const std::optional<mode_t> mode, mode_of(out));
  if (mode) {
    if (!overwrite) return Status(FINERMOE_ERROR_FILE_EXISTS, format_text(out_path, " exists already"));
    FM_TRY(may_replace(out, out_path, single_file));
  }
  Staging staging;
  staging.single_file_ = single_file;
  staging.out_ = std::move(out);
  staging.overwrite_ = overwrite;
  return staging;
}

Staging::Staging(Staging&& other) noexcept
    : out_(std::move(other.out_)),
      single_file_(other.single_file_),
      overwrite_(other.overwrite_),
      single_(std::move(other.single_)),
      file_(std::move(other.file_)),
      directory_(std::exchange(other.directory_, {})),
      contents_(std::move(other.contents_)),
      made_(std::move(other.made_)),
      lock_(std::move(other.lock_)) {}

Staging::~Staging() {
  if (directory_.empty()) return;
  for (const std::string& path : made_) ::unlink(path.c_str());
  ::rmdir(contents_.c_str());
  ::rmdir(directory_.c_str());
}

Status Staging::begin(uint64_t bytes) {
  if (!single_file_) remove_abandoned(out_);
  const std::string parent = directory_of(out_);
  struct statvfs space;
  if (::statvfs(parent.c_str(), &space) != 0) return write_error("look at", parent, errno);
  uint64_t available = static_cast<uint64_t>(space.f_bavail) * space.f_frsize;
  if (available < bytes)
    return Status(FINERMOE_ERROR_DISK_FULL,
                  format_text("the output ", out_, " needs ", bytes, " bytes, and ", available, " are available"),
                  format_text(bytes, " bytes"), format_text(available, " bytes"));
  if (single_file_) {
    const auto older = overwrite_ ? AtomicFile::Older::replaced : AtomicFile::Older::refused;
    FM_ASSIGN(single_, AtomicFile::create(out_, older));
    return {};
  }
  FM_TRY(make_directory());
  contents_ = contents_in(directory_);
  if (::mkdir(contents_.c_str(), 0777) != 0) return write_error("create", contents_, errno);
  return {};
}

Status Staging::make_directory() {
  // Between mkdtemp and flock another writer may take the new directory for an abandoned one: then try again. On a file
  // system without locks, writers remove no directories.
  for (int attempt = 0; attempt < 100; ++attempt) {
    std::string name = format_text(out_, partial_mark, "XXXXXX");
    if (!::mkdtemp(name.data())) return write_error("create", name, errno);
    directory_ = std::move(name);
    lock_ = Descriptor::open(directory_.c_str(), O_RDONLY | O_DIRECTORY);
    if (!lock_.valid() && errno != ENOENT) return write_error("open", directory_, errno);
    if (lock_.valid() && lock_directory(lock_, directory_) != Lock::refused) return {};
    directory_.clear();  // the other writer removes it
  }
  return Status(FINERMOE_ERROR_FILE_WRITE, format_text("cannot lock a directory beside ", out_));
}

Result<NewFile*> Staging::create(const std::string& name) {
  if (single_file_) return &single_->file();
  made_.push_back(format_text(contents_, "/", name));
  FM_ASSIGN(file_, NewFile::create(made_.back()));
  return &file_;
}

Status Staging::publish(const std::string& last_name, const std::string& content) {
  if (single_file_) return single_->commit();
  const std::string waiting = directory_ + "/last", place = contents_ + "/" + last_name;
  made_.push_back(waiting);
  made_.push_back(place);
  FM_ASSIGN(NewFile last, NewFile::create(waiting));
  FM_TRY(last.write(0, std::as_bytes(std::span(content))));
  FM_TRY(last.sync());
  if (const int error = sync_directory(contents_)) return write_error("sync", contents_, error);
  // From here to the end of replace(), two calls away, the complete model is beside OUT.
  if (::rename(waiting.c_str(), place.c_str()) != 0) return write_error("rename", waiting, errno);
  FM_TRY(replace());
  made_.clear();  // they are in OUT now
  return settle(last_name);
}

Status Staging::replace() {
  if (::renameat2(AT_FDCWD, contents_.c_str(), AT_FDCWD, out_.c_str(), RENAME_NOREPLACE) == 0) return {};
  if (errno == EEXIST && overwrite_) {  // the old one is moved into the staging directory and removed with it
    if (::renameat2(AT_FDCWD, contents_.c_str(), AT_FDCWD, out_.c_str(), RENAME_EXCHANGE) == 0) return {};
  }
  if (errno != EINVAL) return write_error("put in place", out_, errno);
  // For a file system that supports neither (some network ones): move the old one aside, then the new one in. If the
  // process is killed between the two, bring_back() restores the old one.
  const std::string aside = aside_in(directory_);
  FM_ASSIGN(const std::optional<mode_t> mode, mode_of(out_));
  const bool replaces = mode.has_value();
  if (replaces && !overwrite_) return write_error("put in place", out_, EEXIST);
  if (replaces && ::rename(out_.c_str(), aside.c_str()) != 0) return write_error("move aside", out_, errno);
  if (::rename(contents_.c_str(), out_.c_str()) == 0) return {};
  const int error = errno;
  if (!replaces || ::rename(aside.c_str(), out_.c_str()) == 0) return write_error("put in place", out_, error);
  const std::string kept = std::exchange(directory_, {});  // so that nothing in it is removed
  return Status(FINERMOE_ERROR_FILE_WRITE,
                format_text("cannot put in place ", out_, ": ", describe_errno(error), "; what it was is now ", aside,
                            ", the new model ", contents_in(kept)));
}

// OUT is the new model. What remains is to make that survive a system crash, and to remove the old one.
Status Staging::settle(const std::string& last_name) const {
  const std::string parent = directory_of(out_);
  const char* what = "but may not be after a crash of the system";
  int error = sync_directory(out_);
  if (error == 0) error = sync_directory(parent);
  if (error == 0) {
    what = "but what it replaces cannot be removed";
    for (const std::string& replaced : {contents_, aside_in(directory_)}) {  // a partial one never opens as a model
      ::unlink(format_text(replaced, "/", last_name).c_str());
    }
    error = remove_tree(AT_FDCWD, directory_.c_str());
  }
  if (error == 0) return {};
  return Status(error == ENOSPC ? FINERMOE_ERROR_DISK_FULL : FINERMOE_ERROR_FILE_WRITE,
                format_text(out_, " is the new model, ", what, ": ", describe_errno(error)), "", directory_);
}

}  // namespace finermoe
