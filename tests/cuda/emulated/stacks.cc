#include "stacks.h"

#include <sys/mman.h>

#include <new>
#include <utility>

#include "../../support/sanitizers.h"

#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#else
#define __sanitizer_start_switch_fiber(shadow, bottom, bytes)
#define __sanitizer_finish_switch_fiber(shadow, bottom, bytes)
#define ASAN_UNPOISON_MEMORY_REGION(address, bytes)
#endif

namespace emulated {
namespace {

// Sanitizers and compilers that do not optimise need more than half of it; what is not touched costs nothing.
constexpr size_t stack_bytes = 256 * 1024, page = 4096;

// Memory for one stack, with a page that faults below it.
class Memory {
 public:
  // Stacks begin at different places of a page, since those at the same place of many pages share few lines of a cache.
  explicit Memory(size_t index) : shift_(index % 16 * (page / 16)) {}
  boost::context::stack_context allocate() const {
    void* const memory = mmap(nullptr, page + stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    mprotect(memory, page, PROT_NONE);
    boost::context::stack_context stack;
    stack.size = stack_bytes - shift_;
    stack.sp = static_cast<char*>(memory) + page + stack.size;
    return stack;
  }
  void deallocate(boost::context::stack_context& stack) const {
    char* const memory = static_cast<char*>(stack.sp) - stack.size - page;
    ASAN_UNPOISON_MEMORY_REGION(memory + page, stack_bytes);
    munmap(memory, page + stack_bytes);
  }

 private:
  size_t shift_;
};

}  // namespace

void Stacks::make(Context& context, std::function<void()> body) {
  const Memory memory(n_made_++);
  const boost::context::stack_context stack = memory.allocate();
  context.bottom = static_cast<char*>(stack.sp) - stack.size;
  context.bytes = stack.size;
  context.left = boost::context::fiber(std::allocator_arg, boost::context::preallocated(stack.sp, stack.size, stack),
                                       memory, [this, body = std::move(body)](boost::context::fiber&& from) {
                                         came_from_->left = std::move(from);
                                         arrive();
                                         body();
                                         came_from_ = on_;
                                         on_ = &host_;
                                         __sanitizer_start_switch_fiber(nullptr, host_.bottom, host_.bytes);
                                         return std::move(host_.left);
                                       });
}

void Stacks::switch_to(Context& to) {
  came_from_ = on_;
  on_ = &to;
  __sanitizer_start_switch_fiber(&came_from_->shadow, to.bottom, to.bytes);
  boost::context::fiber from = std::move(to.left).resume();
  came_from_->left = std::move(from);
  arrive();
}

// The host's stack becomes known when it is left for the first time.
void Stacks::arrive() { __sanitizer_finish_switch_fiber(on_->shadow, &came_from_->bottom, &came_from_->bytes); }

}  // namespace emulated
