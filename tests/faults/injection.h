// Failing calls. injection.cc stands before the C library's functions in this program and in every shared library that
// it loads: a chosen call of a kind fails as the system would let it fail, and what is allocated is counted.
#pragma once

#include <cstdint>

namespace injection {

enum class Call {
  none,
  allocate,  // malloc and its kin, operator new with them, and anonymous mmap
  map,       // mmap of a file
  open,      // files, directories, and streams of them
  read,
  write,
  sync,
  rename,
  make,  // mkdir, mkdtemp, link
  lock,
  stat,
  start_thread,
};
constexpr int n_calls = 12;
const char* name_of(Call call);

struct Plan {
  Call call = Call::none;
  uint64_t n = 0;            // the n-th call from now on, from 1
  bool all_later = false;    // and every one after it
  bool kills = false;        // in place of failing, the process dies at the call
  bool has_exchange = true;  // false: renameat2 knows no flags, as on some network file systems
  bool has_locks = true;     // false: flock fails with ENOLCK
};

// Counting begins, and `plan` holds until the next call of this function.
void begin(const Plan& plan);
void end();                 // nothing fails any more; counts stay
uint64_t count(Call call);  // since begin()

struct Held {
  int64_t allocations, mappings, descriptors, threads;
  bool operator==(const Held&) const = default;
};
Held held();  // by the process, now

}  // namespace injection
