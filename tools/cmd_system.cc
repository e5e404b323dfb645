// finermoe system: describes the machine and the build, for bug reports.
#include <sched.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>

#include "bandwidth.h"
#include "commands.h"
#include "compute.h"
#include "failure.h"
#include "library.h"
#include "names.h"
#include "printing.h"
#include "units.h"

namespace tool {

namespace {

constexpr size_t kBandwidthBytes = 256u << 20;  // larger than the caches of most machines

struct SystemFlags {
  ComputeFlags compute;
  bool bandwidth = false, json = false;
};

void declare(CLI::App& app, SystemFlags& flags) {
  app.add_flag("--bandwidth", flags.bandwidth, "measure how fast memory is read (some seconds, 256 MB)");
  app.add_flag("--json", flags.json, "a JSON object");
  add_threads(app, flags.compute);
  add_device_module(app, flags.compute);
  add_blas(app, flags.compute);
}

// What follows "key :" in the first line of a file that begins with it; "" if there is none.
std::string first_value(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.compare(0, key.size(), key) != 0 || colon == line.npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == line.npos ? "" : line.substr(begin);
  }
  return "";
}

// The word in brackets in "always [madvise] never"; "" if the system does not say.
std::string huge_pages() {
  std::ifstream file("/sys/kernel/mm/transparent_hugepage/enabled");
  std::string line;
  std::getline(file, line);
  const size_t begin = line.find('['), end = line.find(']');
  return begin == line.npos || end == line.npos ? "" : line.substr(begin + 1, end - begin - 1);
}

std::string system_name() {
  utsname names{};
  if (uname(&names) != 0) return "unknown";
  return std::string(names.sysname) + " " + names.release + " " + names.machine;
}

Json limit_of(decltype(RLIMIT_AS) resource) {
  rlimit limit{};
  if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) {
    return nullptr;
  }
  return static_cast<uint64_t>(limit.rlim_cur);
}

Json processors_allowed() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof set, &set) == 0 ? Json(CPU_COUNT(&set)) : Json(nullptr);
}

Json names_of(uint32_t isas) {
  Json names = Json::array();
  for (const int32_t isa : {FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512, FINERMOE_ISA_AMX}) {
    if ((isas >> isa & 1) != 0) names.push_back(isa_name(isa));
  }
  return names;
}

finermoe_system_info read_system() {
  finermoe_system_info info{};
  info.struct_size = sizeof info;
  call(finermoe_system_get_info, &info);
  return info;
}

Json read_devices(const std::string& module) {
  const char* const path = module.empty() ? nullptr : module.c_str();
  size_t count = 0;
  call(finermoe_device_count, path, &count);
  Json devices = Json::array();
  for (size_t i = 0; i < count; i++) {
    finermoe_device_info info{};
    info.struct_size = sizeof info;
    call(finermoe_device_get_info, path, i, &info);
    devices.push_back({{"name", info.name},
                       {"kind", info.kind == FINERMOE_DEVICE_CPU   ? "cpu"
                                : info.kind == FINERMOE_DEVICE_GPU ? "gpu"
                                                                   : "other"},
                       {"description", info.description},
                       {"version", info.version},
                       {"memory", info.memory},
                       {"memory_available", info.memory_available},
                       {"weights", dtype_names(info.weight_dtypes)},
                       {"kv_cache", dtype_names(info.kv_dtypes)},
                       {"copies_weights", info.copies_weights != 0}});
  }
  return devices;
}

// The library that --blas names, as a runtime opens it; null without one.
Json read_blas(const ComputeFlags& flags) {
  if (flags.blas.empty()) return nullptr;
  RuntimeOptions options;
  call(finermoe_runtime_options_create, options.out());
  set_blas(options, flags);
  Runtime runtime;
  call(finermoe_runtime_create, options.get(), runtime.out());
  const auto info = read_info<finermoe_runtime_info>(finermoe_runtime_get_info, runtime.get());
  return {{"library", info.blas}, {"used", info.uses_blas != 0}};
}

Json describe(const finermoe_system_info& info, const ComputeFlags& flags) {
  const auto or_null = [](const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); };
  const std::string memory = first_value("/proc/meminfo", "MemTotal");
  const uint64_t memory_total = memory.empty() ? 0 : std::strtoull(memory.c_str(), nullptr, 10) * 1024;
  return {{"version", finermoe_version()},
          {"abi_version", finermoe_abi_version()},
          {"compiler", info.compiler},
          {"build", info.build},
          {"system", system_name()},
          {"processor",
           {{"name", or_null(first_value("/proc/cpuinfo", "model name"))},
            {"isas", names_of(info.isas)},
            {"isa", isa_name(info.isa)},
            {"kernels", info.kernels}}},
          {"threads",
           {{"default", info.n_threads},
            {"processors", sysconf(_SC_NPROCESSORS_ONLN)},
            {"affinity", processors_allowed()},
            {"quota", info.processor_quota > 0 ? Json(info.processor_quota) : Json(nullptr)}}},
          {"memory",
           {{"total", memory_total > 0 ? Json(memory_total) : Json(nullptr)},
            {"available", info.memory_available},
            {"quota", info.memory_quota > 0 ? Json(info.memory_quota) : Json(nullptr)},
            {"page_size", sysconf(_SC_PAGESIZE)},
            {"huge_pages", or_null(huge_pages())}}},
          {"limits",
           {{"locked_memory", limit_of(RLIMIT_MEMLOCK)},
            {"address_space", limit_of(RLIMIT_AS)},
            {"open_files", limit_of(RLIMIT_NOFILE)}}},
          {"blas", read_blas(flags)},
          {"devices", read_devices(flags.device_module)}};
}

std::string for_a_person(const Json& json) {
  const auto row = [](const std::string& name, const std::string& text) {
    return name + std::string(14 - name.size(), ' ') + text + "\n";
  };
  const auto text = [](const Json& value) { return value.is_null() ? "unknown" : value.get<std::string>(); };
  const auto bytes = [](const Json& value, const char* none) {
    return value.is_null() ? none : format_bytes(value.get<uint64_t>());
  };
  const Json &processor = json["processor"], &threads = json["threads"], &memory = json["memory"],
             &limits = json["limits"];
  std::string isas;
  for (const Json& isa : processor["isas"]) isas += (isas.empty() ? "" : ", ") + isa.get<std::string>();
  const std::string quota =
      threads["quota"].is_null() ? "no quota" : "quota " + format_fixed(threads["quota"].get<double>(), 2);
  std::string out = row("finermoe", text(json["version"]) + ", ABI " + json["abi_version"].dump());
  out += row("build", text(json["build"]) + ", " + text(json["compiler"]));
  out += row("system", text(json["system"]));
  out += row("processor", text(processor["name"]));
  out += row("instructions", isas + "; kernels: " + text(processor["kernels"]));
  out += row("threads", threads["default"].dump() + " (processors: " + threads["processors"].dump() +
                            ", affinity: " + threads["affinity"].dump() + ", " + quota + ")");
  out += row("memory", bytes(memory["total"], "unknown") + ", " + bytes(memory["available"], "unknown") +
                           " available, quota: " + bytes(memory["quota"], "none"));
  out += row("pages", memory["page_size"].dump() + " B, huge pages: " + text(memory["huge_pages"]));
  out += row("limits", "locked memory " + bytes(limits["locked_memory"], "unlimited") + ", address space " +
                           bytes(limits["address_space"], "unlimited") + ", open files " +
                           (limits["open_files"].is_null() ? "unlimited" : limits["open_files"].dump()));
  if (const Json& blas = json["blas"]; !blas.is_null()) {
    out += row("BLAS", text(blas["library"]) + (blas["used"].get<bool>() ? "" : ", not used here"));
  }
  for (const Json& device : json["devices"]) {
    out += row("device", text(device["name"]) + ": " + text(device["description"]) + ", " + text(device["version"]) +
                             ", " + format_bytes(device["memory_available"].get<uint64_t>()) + " of " +
                             format_bytes(device["memory"].get<uint64_t>()) + " available");
  }
  if (json.contains("read_gb_per_second")) {
    out += row("memory reads", format_fixed(json["read_gb_per_second"].get<double>(), 2) + " GB/s on " +
                                   json["read_threads"].dump() + " threads");
  }
  return out;
}

int run_system(const SystemFlags& flags) {
  const finermoe_system_info info = read_system();
  Json json = describe(info, flags.compute);
  if (flags.bandwidth) {
    const unsigned n_threads = flags.compute.threads != 0 ? flags.compute.threads : info.n_threads;
    json["read_gb_per_second"] = ReadBandwidth(kBandwidthBytes, n_threads).measure() / 1e9;
    json["read_threads"] = n_threads;
  }
  print(flags.json ? dump(json, 2) : for_a_person(json));
  return kOk;
}

}  // namespace

void add_system(CommandLine& line) {
  add_command<SystemFlags>(line, "system", "what this machine and this build are: for bug reports",
                           "  finermoe system\n"
                           "  finermoe system --bandwidth --json\n",
                           declare, run_system);
}

}  // namespace tool
