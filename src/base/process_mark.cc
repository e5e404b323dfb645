#include "base/process_mark.h"

#include <sys/mman.h>
#include <unistd.h>

namespace finermoe {
namespace {

constexpr size_t page_bytes = 1;  // the system rounds up

}  // namespace

// Process ids are reused, so a grandchild may have that of the process that made the mark. A page that fork() wipes
// (MADV_WIPEONFORK, Linux 4.14) is never wrong, and reading it is faster than a system call. No fork() handler is
// installed.
ProcessMark::ProcessMark() : process_(getpid()) {
#ifdef MADV_WIPEONFORK
  void* page = mmap(nullptr, page_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return;
  if (madvise(page, page_bytes, MADV_WIPEONFORK) != 0) {
    munmap(page, page_bytes);
    return;
  }
  page_ = static_cast<unsigned char*>(page);
  *page_ = 1;
#endif
}

ProcessMark::~ProcessMark() {
  if (page_ != nullptr) munmap(const_cast<unsigned char*>(page_), page_bytes);
}

bool ProcessMark::is_inherited() const { return page_ != nullptr ? *page_ == 0 : process_ != getpid(); }

}  // namespace finermoe
