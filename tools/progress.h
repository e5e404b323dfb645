// A progress bar on standard error, only if that is a terminal.
#pragma once

#include <cstdint>
#include <string>

#include "base/stopwatch.h"

namespace tool {

class Progress {
 public:
  enum Unit { kInBytes, kInTokens };
  explicit Progress(Unit unit);
  ~Progress();  // erases the bar
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(const char* phase, uint64_t done, uint64_t total);
  // A finermoe_progress_fn whose `user` is a Progress.
  static int32_t report(void* user, const char* phase, uint64_t done, uint64_t total);

 private:
  Unit unit_;
  bool terminal_;
  finermoe::Stopwatch watch_;
  bool drawn_ = false;
  std::string phase_;
  double phase_begin_ = 0;
  uint64_t phase_first_ = 0;
  double last_draw_ = 0;
};

}  // namespace tool
