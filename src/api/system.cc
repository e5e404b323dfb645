// What the library finds on this machine: finermoe_system_get_info of section 3.
#include <cmath>

#include "api/handles.h"
#include "backend/backend.h"
#include "base/control_group.h"
#include "base/system_memory.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

#if defined(__clang__)
constexpr char compiler[] = "Clang " __clang_version__;
#elif defined(__GNUC__)
constexpr char compiler[] = "GCC " __VERSION__;
#else
constexpr char compiler[] = "unknown";
#endif

}  // namespace

int32_t finermoe_system_get_info(finermoe_system_info* info, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    finermoe_system_info out{};
    FM_ASSIGN(out.isa, resolve_isa(FINERMOE_ISA_AUTO));
    out.kernels = kernels_name(out.isa);
    out.compiler = compiler;
    out.build = FINERMOE_BUILD;
    for (const int32_t isa : {FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512}) {
      if (resolve_isa(isa).ok()) out.isas |= 1u << isa;
    }
    out.n_threads = available_processors();
    const double quota = processor_quota();
    out.processor_quota = std::isfinite(quota) ? quota : 0;
    const uint64_t memory = memory_quota();
    out.memory_quota = memory == UINT64_MAX ? 0 : memory;
    out.memory_available = available_memory();
    return put_struct(out, info);
  });
}
