#include "progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "units.h"

namespace tool {

namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr uint64_t kBarWidth = 24;

std::string format_time(double duration) {
  const auto whole = static_cast<uint64_t>(std::llround(duration));
  char text[32];
  if (whole >= 3600) {
    std::snprintf(text, sizeof text, "%u:%02u:%02u", static_cast<unsigned>(whole / 3600),
                  static_cast<unsigned>(whole / 60 % 60), static_cast<unsigned>(whole % 60));
  } else {
    std::snprintf(text, sizeof text, "%u:%02u", static_cast<unsigned>(whole / 60), static_cast<unsigned>(whole % 60));
  }
  return text;
}

}  // namespace

Progress::Progress(Unit unit) : unit_(unit), terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (drawn_) std::fputs("\r\033[K", stderr);
}

void Progress::show(const char* phase, uint64_t done, uint64_t total) {
  if (!terminal_ || total == 0) return;
  const double now = watch_.seconds();
  if (phase_ != phase) {
    phase_ = phase;
    phase_begin_ = now;
    phase_first_ = done;
    last_draw_ = now;  // a phase that ends immediately draws nothing
    return;
  }
  if (done >= total) {  // erased before the command's own output
    if (drawn_) std::fputs("\r\033[K", stderr);
    drawn_ = false;
    return;
  }
  if (now - last_draw_ < kRedrawSeconds) return;
  last_draw_ = now;
  drawn_ = true;

  const double fraction = static_cast<double>(done) / static_cast<double>(total);
  const double speed = static_cast<double>(done - (phase_first_ < done ? phase_first_ : done)) / (now - phase_begin_);
  const auto format = [this](uint64_t n) { return unit_ == kInBytes ? format_bytes(n) : std::to_string(n); };
  const auto filled = static_cast<uint64_t>(fraction * static_cast<double>(kBarWidth));
  std::string line = "\r\033[K" + phase_ + " [" + std::string(filled, '#') + std::string(kBarWidth - filled, '-') +
                     "] " + format_fixed(100 * fraction, 0) + " %  " + format(done) + " of " + format(total) +
                     (unit_ == kInTokens ? " tokens" : "");
  if (speed > 0) {
    line += "  " + format(static_cast<uint64_t>(speed)) + "/s  " +
            format_time(static_cast<double>(total - done) / speed) + " left";
  }
  std::fputs(line.c_str(), stderr);
  std::fflush(stderr);
}

int32_t Progress::report(void* user, const char* phase, uint64_t done, uint64_t total) {
  static_cast<Progress*>(user)->show(phase, done, total);
  return 0;
}

}  // namespace tool
