#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/control_group.h"

namespace finermoe {
namespace {

// O_NONBLOCK: do not wait for a writer if the name is that of a pipe.
constexpr int open_flags = O_RDONLY | O_NOCTTY | O_NONBLOCK;

Status open_error(int error, const std::string& name) {
  const bool is_short = error == EMFILE || error == ENFILE || error == ENOMEM;  // says nothing about the file
  const Code code = error == ENOENT || error == ENOTDIR ? FINERMOE_ERROR_FILE_NOT_FOUND
                    : is_short                          ? FINERMOE_ERROR_OUT_OF_MEMORY
                                                        : FINERMOE_ERROR_FILE_UNREADABLE;
  return Status(code, format_text(name, ": cannot be opened: ", describe_errno(error)), "a file that can be read",
                describe_errno(error));
}

Status shrunk(const std::string& name, uint64_t expected, uint64_t found) {
  return Status(FINERMOE_ERROR_FILE_CHANGED,
                format_text(name, " was ", expected, " bytes long when it was opened and has now ", found),
                format_text(expected, " bytes"), format_text(found, " bytes"));
}

// The read-ahead window of a file's device, clamped to sizes that suit any device.
uint64_t read_window(int fd) {
  constexpr uint64_t smallest = 128 << 10, largest = 2 << 20;
  struct stat info;
  long long kib[2];
  if (fstat(fd, &info) != 0) return smallest;
  const std::string device =
      format_text("/sys/class/bdi/", major(info.st_dev), ":", minor(info.st_dev), "/read_ahead_kb");
  if (!read_numbers(device, kib) || kib[0] <= 0) return smallest;
  return std::clamp(static_cast<uint64_t>(kib[0]) << 10, smallest, largest) / smallest * smallest;
}

}  // namespace

Result<File> File::adopt(Descriptor descriptor, std::string name) {
  File file;
  file.descriptor_ = std::move(descriptor);
  file.name_ = std::move(name);
  struct stat info;
  if (fstat(file.descriptor(), &info) != 0) return open_error(errno, file.name_);
  file.is_directory_ = S_ISDIR(info.st_mode);
  if (!file.is_directory_ && !S_ISREG(info.st_mode)) {
    return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(file.name_, " is neither a regular file nor a directory"),
                  "a regular file or a directory", "something else");
  }
  file.size_ = file.is_directory_ ? 0 : static_cast<uint64_t>(info.st_size);
  return file;
}

Result<File> File::open(const std::string& path) {
  if (path.find('\0') != std::string::npos) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "a path has a NUL inside", "a path without NUL", "a NUL");
  }
  Descriptor descriptor = Descriptor::open(path.c_str(), open_flags);
  if (!descriptor.valid()) return open_error(errno, path);
  return adopt(std::move(descriptor), path);
}

Result<File> File::duplicate(int fd, std::string display_name) {
  Descriptor copy = Descriptor::duplicate(fd);
  if (!copy.valid()) return open_error(errno, display_name);
  return adopt(std::move(copy), std::move(display_name));
}

Result<File> File::open_at(const std::string& name) const {
  if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
      name.find('\0') != std::string::npos) {
    return Status(FINERMOE_ERROR_PATH,
                  format_text("a file name in ", name_, " has a separator, a NUL or leaves the directory"),
                  "the name of a file in the same directory", name.substr(0, name.find('\0')));
  }
  std::string path = name_.ends_with('/') ? format_text(name_, name) : format_text(name_, "/", name);
  Descriptor opened = Descriptor::open_at(descriptor(), name.c_str(), open_flags);
  if (!opened.valid()) return open_error(errno, path);
  return adopt(std::move(opened), std::move(path));
}

File::File(File&& other) noexcept { *this = std::move(other); }

File& File::operator=(File&& other) noexcept {
  std::swap(descriptor_, other.descriptor_);
  std::swap(is_directory_, other.is_directory_);
  std::swap(size_, other.size_);
  std::swap(name_, other.name_);
  return *this;
}

Result<uint64_t> File::current_size() const {
  struct stat info;
  if (fstat(descriptor(), &info) != 0) return open_error(errno, name_);
  return static_cast<uint64_t>(info.st_size);
}

Status File::read(uint64_t offset, std::span<std::byte> out) const {
  for (size_t done = 0; done < out.size();) {
    ssize_t n = pread(descriptor(), out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n > 0) {
      done += static_cast<size_t>(n);
    } else if (n == 0) {
      return shrunk(name_, offset + out.size(), offset + done);
    } else if (errno != EINTR) {
      return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(name_, ": cannot be read: ", describe_errno(errno)),
                    "a file that can be read", describe_errno(errno));
    }
  }
  return {};
}

Result<std::string> File::read_all(uint64_t most) const {
  if (is_directory_) {
    return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(name_, " is a directory"), "a file", "a directory");
  }
  if (size_ > most) {
    return Status(FINERMOE_ERROR_FILE_UNREADABLE, format_text(name_, " has ", size_, " bytes, more than ", most),
                  format_text("at most ", most, " bytes"), format_text(size_, " bytes"));
  }
  std::string text(size_, '\0');
  FM_TRY(read(0, std::as_writable_bytes(std::span(text))));
  return text;
}

Result<std::vector<std::string>> File::list() const {
  // A descriptor with its own file position.
  const DirectoryStream directory = read_directory(Descriptor::open_at(descriptor(), ".", O_RDONLY | O_DIRECTORY));
  if (directory == nullptr) return open_error(errno, name_);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = readdir(directory.get())) {
    std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  if (const int error = errno; error != 0) return open_error(error, name_);
  std::sort(names.begin(), names.end());
  return names;
}

Result<std::shared_ptr<const FileBytes>> FileBytes::map(File file) {
  std::shared_ptr<FileBytes> bytes(new FileBytes);
  bytes->size_ = file.size();
  bytes->name_ = file.name();
  if (bytes->size_ != 0) {
    void* data = mmap(nullptr, bytes->size_, PROT_READ, MAP_SHARED, file.descriptor(), 0);
    if (data == MAP_FAILED) {
      Code code = errno == ENOMEM ? FINERMOE_ERROR_OUT_OF_MEMORY : FINERMOE_ERROR_FILE_UNREADABLE;
      return Status(code, format_text(file.name(), ": cannot be mapped: ", describe_errno(errno)),
                    "a file that can be mapped", describe_errno(errno));
    }
    bytes->data_ = static_cast<const std::byte*>(data);
    bytes->mapped_ = true;
    bytes->read_window_ = read_window(file.descriptor());
  }
  bytes->file_ = std::move(file);
  return std::shared_ptr<const FileBytes>(std::move(bytes));
}

Result<std::shared_ptr<const FileBytes>> FileBytes::copy(const File& file, std::shared_ptr<MemoryAccount> account,
                                                         FunctionRef<Status(uint64_t done)> on_progress) {
  auto read = [&](uint64_t offset, std::span<std::byte> out) { return file.read(offset, out); };
  return copy(file.name(), file.size(), std::move(account), read, on_progress);
}

Result<std::shared_ptr<const FileBytes>> FileBytes::copy(const FileBytes& other, std::shared_ptr<MemoryAccount> account,
                                                         FunctionRef<Status(uint64_t done)> on_progress) {
  auto read = [&](uint64_t offset, std::span<std::byte> out) {
    std::memcpy(out.data(), other.data() + offset, out.size());
    return Status();
  };
  return copy(other.name(), other.size(), std::move(account), read, on_progress);
}

Result<std::shared_ptr<const FileBytes>> FileBytes::copy(
    const std::string& name, uint64_t size, std::shared_ptr<MemoryAccount> account,
    FunctionRef<Status(uint64_t offset, std::span<std::byte> out)> read,
    FunctionRef<Status(uint64_t done)> on_progress) {
  constexpr uint64_t piece = 16 << 20;
  std::shared_ptr<FileBytes> bytes(new FileBytes);
  bytes->size_ = size;
  bytes->name_ = name;
  FM_ASSIGN(bytes->buffer_, Buffer::allocate(std::move(account), size, format_text("a copy of ", name)));
  bytes->data_ = bytes->buffer_.data();
  for (uint64_t done = 0; done < bytes->size_;) {
    uint64_t n = std::min(piece, bytes->size_ - done);
    FM_TRY(read(done, std::span(bytes->buffer_.data() + done, n)));
    done += n;
    FM_TRY(on_progress(done));
  }
  return std::shared_ptr<const FileBytes>(std::move(bytes));
}

std::shared_ptr<const FileBytes> FileBytes::borrow(const void* data, size_t size, std::string name) {
  std::shared_ptr<FileBytes> bytes(new FileBytes);
  bytes->data_ = static_cast<const std::byte*>(data);
  bytes->size_ = size;
  bytes->name_ = std::move(name);
  return bytes;
}

FileBytes::~FileBytes() {
  if (mapped_) munmap(const_cast<std::byte*>(data_), size_);
}

Status FileBytes::check_unchanged() const {
  if (!mapped_) return {};
  FM_ASSIGN(uint64_t now, file_.current_size());
  if (now < size_) return shrunk(name_, size_, now);
  return {};
}

namespace {

struct PageRange {
  std::byte* begin;
  size_t size;
};

// The pages that overlap a range, or, if `inside`, those that lie wholly within it.
PageRange pages_of(const std::byte* base, uint64_t offset, uint64_t size, bool inside) {
  static const auto page = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  const auto address = reinterpret_cast<uintptr_t>(base) + offset;
  const uint64_t begin = (inside ? address + page - 1 : address) / page * page;
  const uint64_t end = (inside ? address + size : address + size + page - 1) / page * page;
  return {reinterpret_cast<std::byte*>(begin), end > begin ? end - begin : 0};
}

}  // namespace

// One request reads no more than the device's read-ahead window, so a range is requested in pieces of that size.
void FileBytes::will_read(uint64_t offset, uint64_t size) const {
  if (!mapped_) return;
  const PageRange pages = pages_of(data_, offset, size, false);
  for (size_t done = 0; done < pages.size; done += read_window_) {
    madvise(pages.begin + done, std::min<size_t>(read_window_, pages.size - done), MADV_WILLNEED);
  }
}

void FileBytes::map_by_huge_pages(uint64_t offset, uint64_t size) const {
  if (!mapped_) return;
  const PageRange pages = pages_of(data_, offset, size, true);
  if (pages.size != 0) madvise(pages.begin, pages.size, MADV_HUGEPAGE);
}

void FileBytes::map_by_small_pages(uint64_t offset, uint64_t size) const {
  if (!mapped_) return;
  const PageRange pages = pages_of(data_, offset, size, true);
  if (pages.size != 0) madvise(pages.begin, pages.size, MADV_NOHUGEPAGE);
}

void FileBytes::release(uint64_t offset, uint64_t size) const {
  if (!mapped_) return;
  const PageRange pages = pages_of(data_, offset, size, false);
  if (pages.size == 0) return;
  madvise(pages.begin, pages.size, MADV_DONTNEED);
  posix_fadvise(file_.descriptor(), pages.begin - data_, static_cast<off_t>(pages.size), POSIX_FADV_DONTNEED);
}

Status FileBytes::lock(uint64_t offset, uint64_t size) const {
  if (!mapped_ && buffer_.size() == 0) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text(name_, " belongs to the host, and so does locking it"),
                  "weights that are mapped or copied", "memory of the host");
  }
  const PageRange pages = pages_of(data_, offset, size, true);
  if (pages.size == 0 || mlock(pages.begin, pages.size) == 0) return {};
  const std::string reason = describe_errno(errno);
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  const std::string allowed = limit.rlim_cur == RLIM_INFINITY ? "no limit" : format_text(limit.rlim_cur, " bytes");
  return Status(FINERMOE_ERROR_OUT_OF_MEMORY,
                format_text(name_, ": ", size, " bytes more cannot be locked in memory: ", reason,
                            " (RLIMIT_MEMLOCK: ", allowed, ")"),
                "a larger RLIMIT_MEMLOCK (ulimit -l), or less to lock", allowed);
}

}  // namespace finermoe
