#include "injection.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

namespace injection {
namespace {

Plan current;
std::atomic<uint64_t> counts[n_calls];
std::atomic<bool> counting{false};
std::atomic<int64_t> allocations{0}, mappings{0};

// Counts a call; true if it has to fail.
bool fails(Call call) {
  if (!counting.load(std::memory_order_relaxed)) return false;
  const uint64_t n = counts[static_cast<int>(call)].fetch_add(1, std::memory_order_relaxed) + 1;
  if (call != current.call || (n != current.n && !(current.all_later && n > current.n))) return false;
  if (current.kills) kill(getpid(), SIGKILL);
  return true;
}

bool fails(Call call, int error) {
  if (!fails(call)) return false;
  errno = error;
  return true;
}

// The C library's own function. dlsym() may allocate, which the functions that serve allocation do not ask of it.
template <class Function>
Function* next(const char* name) {
  return reinterpret_cast<Function*>(dlsym(RTLD_NEXT, name));
}

}  // namespace

const char* name_of(Call call) {
  constexpr const char* names[n_calls] = {"none", "allocate", "map",  "open", "read", "write",
                                          "sync", "rename",   "make", "lock", "stat", "start_thread"};
  return names[static_cast<int>(call)];
}

void begin(const Plan& plan) {
  current = plan;
  for (auto& one : counts) one = 0;
  counting = true;
}
void end() { counting = false; }
uint64_t count(Call call) { return counts[static_cast<int>(call)]; }

Held held() {
  Held now{allocations, mappings, 0, 0};
  for (int fd = 0; fd < 256; fd++) now.descriptors += ::fcntl(fd, F_GETFD) != -1;
  char text[4096];
  const int fd = static_cast<int>(syscall(SYS_openat, AT_FDCWD, "/proc/self/stat", O_RDONLY | O_CLOEXEC));
  const long n = syscall(SYS_read, fd, text, sizeof text - 1);
  syscall(SYS_close, fd);
  text[n > 0 ? n : 0] = '\0';
  const char* field = strrchr(text, ')');  // the second; the number of threads is the 20th
  for (int i = 2; field != nullptr && i < 20; i++) field = strchr(field + 1, ' ');
  if (field != nullptr) sscanf(field, "%ld", &now.threads);
  return now;
}

}  // namespace injection

using injection::allocations;
using injection::Call;
using injection::fails;
using injection::mappings;
using injection::next;

#pragma GCC visibility push(default)
extern "C" {

void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);

static void* counted(void* memory) {
  if (memory != nullptr) allocations.fetch_add(1, std::memory_order_relaxed);
  return memory;
}
void* malloc(size_t size) noexcept { return fails(Call::allocate, ENOMEM) ? nullptr : counted(__libc_malloc(size)); }
void* calloc(size_t n, size_t size) noexcept {
  return fails(Call::allocate, ENOMEM) ? nullptr : counted(__libc_calloc(n, size));
}
void* realloc(void* memory, size_t size) noexcept {
  if (fails(Call::allocate, ENOMEM)) return nullptr;
  void* moved = __libc_realloc(memory, size);
  if (memory == nullptr) return counted(moved);
  if (moved == nullptr && size == 0) allocations.fetch_sub(1, std::memory_order_relaxed);
  return moved;
}
void* memalign(size_t alignment, size_t size) noexcept {
  return fails(Call::allocate, ENOMEM) ? nullptr : counted(__libc_memalign(alignment, size));
}
void* aligned_alloc(size_t alignment, size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** memory, size_t alignment, size_t size) noexcept {
  void* made = memalign(alignment, size);
  if (made == nullptr) return ENOMEM;
  *memory = made;
  return 0;
}
void free(void* memory) noexcept {
  if (memory != nullptr) allocations.fetch_sub(1, std::memory_order_relaxed);
  __libc_free(memory);
}

void* mmap64(void* address, size_t size, int protection, int flags, int fd, off64_t offset) noexcept {
  if (fails(flags & MAP_ANONYMOUS ? Call::allocate : Call::map, ENOMEM)) return MAP_FAILED;
  void* memory = reinterpret_cast<void*>(syscall(SYS_mmap, address, size, protection, flags, fd, offset));
  if (memory != MAP_FAILED) mappings.fetch_add(1, std::memory_order_relaxed);
  return memory;
}
void* mremap(void* address, size_t size, size_t new_size, int flags, ...) noexcept {
  if (new_size > size && fails(Call::allocate, ENOMEM)) return MAP_FAILED;
  return reinterpret_cast<void*>(syscall(SYS_mremap, address, size, new_size, flags, nullptr));
}
int munmap(void* address, size_t size) noexcept {
  const int result = static_cast<int>(syscall(SYS_munmap, address, size));
  if (result == 0) mappings.fetch_sub(1, std::memory_order_relaxed);
  return result;
}

int openat64(int directory, const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, unsigned) : 0;
  va_end(rest);
  if (fails(Call::open, EMFILE)) return -1;
  return static_cast<int>(syscall(SYS_openat, directory, path, flags, mode));
}
int open64(const char* path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  const unsigned mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, unsigned) : 0;
  va_end(rest);
  return openat64(AT_FDCWD, path, flags, mode);
}
FILE* fopen64(const char* path, const char* mode) {
  if (fails(Call::open, EMFILE)) return nullptr;
  static auto* real = next<FILE*(const char*, const char*)>("fopen64");
  return real(path, mode);
}
DIR* fdopendir(int fd) {
  if (fails(Call::open, ENOMEM)) return nullptr;
  static auto* real = next<DIR*(int)>("fdopendir");
  return real(fd);
}

ssize_t read(int fd, void* data, size_t size) {
  return fails(Call::read, EIO) ? -1 : syscall(SYS_read, fd, data, size);
}
ssize_t pread64(int fd, void* data, size_t size, off64_t offset) {
  return fails(Call::read, EIO) ? -1 : syscall(SYS_pread64, fd, data, size, offset);
}
ssize_t write(int fd, const void* data, size_t size) {
  return fails(Call::write, ENOSPC) ? -1 : syscall(SYS_write, fd, data, size);
}
ssize_t pwrite64(int fd, const void* data, size_t size, off64_t offset) {
  return fails(Call::write, ENOSPC) ? -1 : syscall(SYS_pwrite64, fd, data, size, offset);
}
int fsync(int fd) { return fails(Call::sync, EIO) ? -1 : static_cast<int>(syscall(SYS_fsync, fd)); }

int rename(const char* from, const char* to) noexcept {
  return fails(Call::rename, EIO) ? -1 : static_cast<int>(syscall(SYS_rename, from, to));
}
int renameat2(int from_directory, const char* from, int to_directory, const char* to, unsigned flags) noexcept {
  if (!injection::current.has_exchange && flags != 0) {
    errno = EINVAL;
    return -1;
  }
  if (fails(Call::rename, EIO)) return -1;
  return static_cast<int>(syscall(SYS_renameat2, from_directory, from, to_directory, to, flags));
}
int mkdir(const char* path, mode_t mode) noexcept {
  return fails(Call::make, ENOSPC) ? -1 : static_cast<int>(syscall(SYS_mkdirat, AT_FDCWD, path, mode));
}
char* mkdtemp(char* pattern) noexcept {
  if (fails(Call::make, ENOSPC)) return nullptr;
  static auto* real = next<char*(char*)>("mkdtemp");
  return real(pattern);
}
int linkat(int from_directory, const char* from, int to_directory, const char* to, int flags) noexcept {
  if (fails(Call::make, ENOSPC)) return -1;
  return static_cast<int>(syscall(SYS_linkat, from_directory, from, to_directory, to, flags));
}
int flock(int fd, int operation) noexcept {
  if (!injection::current.has_locks) {
    errno = ENOLCK;
    return -1;
  }
  return fails(Call::lock, ENOLCK) ? -1 : static_cast<int>(syscall(SYS_flock, fd, operation));
}

int fstatat64(int directory, const char* path, struct stat64* out, int flags) noexcept {
  if (fails(Call::stat, EIO)) return -1;
  return static_cast<int>(syscall(SYS_newfstatat, directory, path, out, flags));
}
int stat64(const char* path, struct stat64* out) noexcept { return fstatat64(AT_FDCWD, path, out, 0); }
int lstat64(const char* path, struct stat64* out) noexcept {
  return fstatat64(AT_FDCWD, path, out, AT_SYMLINK_NOFOLLOW);
}
int fstat64(int fd, struct stat64* out) noexcept { return fstatat64(fd, "", out, AT_EMPTY_PATH); }
int statvfs64(const char* path, struct statvfs64* out) noexcept {
  if (fails(Call::stat, EIO)) return -1;
  static auto* real = next<int(const char*, struct statvfs64*)>("statvfs64");
  return real(path, out);
}

int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*start)(void*), void* argument) {
  if (fails(Call::start_thread)) return EAGAIN;
  static auto* real = next<int(pthread_t*, const pthread_attr_t*, void* (*)(void*), void*)>("pthread_create");
  return real(thread, attributes, start, argument);
}

}  // extern "C"
#pragma GCC visibility pop
