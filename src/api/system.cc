// What the library finds on this machine: the system and its devices, of section 3 of finermoe.h.
#include <cmath>

#include "api/handles.h"
#include "base/control_group.h"
#include "base/system_memory.h"
#include "cpu/cpu_device.h"
#include "placement/devices.h"

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

Result<DeviceList> devices_of(const char* module) {
  if (module == nullptr || *module == 0) return list_found_devices({cpu_device()});
  return list_devices({cpu_device()}, module);
}

}  // namespace

int32_t finermoe_system_get_info(finermoe_system_info* info, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    finermoe_system_info out{};
    FM_ASSIGN(out.isa, resolve_isa(FINERMOE_ISA_AUTO));
    out.kernels = kernels_name(out.isa);
    out.compiler = compiler;
    out.build = FINERMOE_BUILD;
    for (const int32_t isa : {FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512, FINERMOE_ISA_AMX}) {
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

int32_t finermoe_device_count(const char* module, size_t* count, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(count, "count"));
    FM_ASSIGN(const DeviceList devices, devices_of(module));
    *count = devices.size();
    return {};
  });
}

int32_t finermoe_device_get_info(const char* module, size_t index, finermoe_device_info* info, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require_struct(info));
    FM_ASSIGN(const DeviceList devices, devices_of(module));
    FM_TRY(require_index(index, devices.size(), "device"));
    const DeviceInfo found = devices[index]->info();
    finermoe_device_info out{};
    out.kind = found.kind;
    put_chars(devices[index]->name(), out.name);
    put_chars(found.description, out.description);
    put_chars(found.version, out.version);
    out.memory = found.memory;
    out.memory_available = found.memory_available;
    out.weight_dtypes = found.weight_dtypes;
    out.kv_dtypes = found.kv_dtypes;
    out.copies_weights = devices[index]->copies_weights();
    return put_struct(out, info);
  });
}
