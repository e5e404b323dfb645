// The one way to open anything: a descriptor that its owner closes, that the host's child processes do not inherit, and
// that is never 0, 1 or 2. A host may have closed those (daemons do): what it prints must not end up in a file of ours,
// nor may its input come from a model.
#pragma once

#include <dirent.h>

#include <memory>
#include <string>
#include <utility>

namespace finermoe {

class Descriptor {
 public:
  Descriptor() = default;
  // Like the system calls of these names, with O_CLOEXEC; on failure the descriptor is not valid and errno says why.
  static Descriptor open(const char* path, int flags, unsigned mode = 0);
  static Descriptor open_at(int directory, const char* name, int flags, unsigned mode = 0);
  static Descriptor duplicate(int fd);
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor();

  bool valid() const { return fd_ >= 0; }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }  // the caller now has to close it

 private:
  explicit Descriptor(int fd) : fd_(fd) {}
  static Descriptor above_standard(int fd);
  int fd_ = -1;
};

struct CloseDirectory {
  void operator()(DIR* directory) const { closedir(directory); }
};
using DirectoryStream = std::unique_ptr<DIR, CloseDirectory>;
DirectoryStream read_directory(Descriptor directory);  // null, with errno set, on failure

// Directory and name of a path that does not end with a slash.
std::string directory_of(const std::string& path);
std::string name_of(const std::string& path);

std::string describe_errno(int error);  // the same in every locale and thread

// The text of a small file of /proc or /sys; empty where there is none.
std::string read_system_file(const char* path);

}  // namespace finermoe
