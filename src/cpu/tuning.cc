#include "cpu/tuning.h"

namespace finermoe {
namespace {

struct Row {
  const char* vendor;
  unsigned first_family, last_family;
  bool needs_amx;
  Tuning tuning;
};

constexpr unsigned any_family = ~0u;
constexpr Row rows[] = {
    // Zen 4 (measured) and Zen 5: a dot does twice the work of a multiply-add.
    {"AuthenticAMD", 25, 26, false, {.bf16_dots = true, .prefetch = 0}},
    // An Intel server whose virtual machine shows AMX (measured).
    {"GenuineIntel", 0, any_family, true, {.bf16_dots = false, .prefetch = 6144, .rows_side_by_side = true}},
    // Emerald Rapids without AMX (measured), and what has the same cores: a dot does half the work of a multiply-add.
    {"GenuineIntel", 0, any_family, false, {.bf16_dots = false, .prefetch = 6144}},
};

}  // namespace

Tuning tuning_of(const ProcessorModel& processor, const CpuFeatures& features) {
  for (const Row& row : rows) {
    const bool is_of_family = processor.family >= row.first_family && processor.family <= row.last_family;
    if (processor.vendor == row.vendor && is_of_family && (features.amx || !row.needs_amx)) return row.tuning;
  }
  return {};
}

}  // namespace finermoe
