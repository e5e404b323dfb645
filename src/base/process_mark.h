// Distinguishes the process that made an object from its child processes, which inherit the object by fork() but none
// of the threads.
#pragma once

#include <sys/types.h>

namespace finermoe {

class ProcessMark {
 public:
  ProcessMark();
  ~ProcessMark();
  ProcessMark(const ProcessMark&) = delete;

  // True in a child of the process that made it. Costs one load, or getpid() if the system cannot wipe a page.
  bool is_inherited() const;

 private:
  volatile unsigned char* page_ = nullptr;  // begins with 1, and is zeros in children
  pid_t process_;
};

}  // namespace finermoe
