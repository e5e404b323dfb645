#include "cpu/tuning.h"

namespace finermoe {
namespace {

struct Row {
  const char* vendor;
  unsigned first_family, last_family;
  Tuning tuning;
};

constexpr unsigned any_family = ~0u;
constexpr Row rows[] = {
    // Zen 4 (measured) and Zen 5: a dot does twice the work of a multiply-add.
    {"AuthenticAMD", 25, 26, {.bf16_dots = true, .prefetch = 0}},
    // Emerald Rapids (measured), and what has the same cores: a dot does half the work of a multiply-add.
    {"GenuineIntel", 0, any_family, {.bf16_dots = false, .prefetch = 6144}},
};

}  // namespace

Tuning tuning_of(const ProcessorModel& processor) {
  for (const Row& row : rows) {
    if (processor.vendor == row.vendor && processor.family >= row.first_family && processor.family <= row.last_family) {
      return row.tuning;
    }
  }
  return {};
}

}  // namespace finermoe
