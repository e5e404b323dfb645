// Stacks on which one thread of the host runs several things in turns. The address sanitizer is told of each change.
#pragma once

#include <boost/context/fiber.hpp>
#include <functional>

namespace emulated {

// What runs on a stack of its own, or on the host's, and where it was left.
struct Context {
  boost::context::fiber left;  // empty while it runs
  // Its stack, and what the address sanitizer keeps for it.
  const void* bottom = nullptr;
  size_t bytes = 0;
  void* shadow = nullptr;
};

// Those of one thread of the host.
class Stacks {
 public:
  // body() begins when somebody switches to the context. After it, the host goes on; the stack is gone then.
  void make(Context& context, std::function<void()> body);
  void switch_to(Context& to);
  Context& host() { return host_; }

 private:
  void arrive();
  Context host_;
  Context *on_ = &host_, *came_from_ = nullptr;
  size_t n_made_ = 0;
};

}  // namespace emulated
