#include "base/cpu_features.h"

#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace finermoe {

CpuFeatures detect_cpu_features() {
  CpuFeatures features;
#if defined(__x86_64__)
  __builtin_cpu_init();  // checks CPUID, and by XGETBV that the operating system saves the wide registers
  unsigned eax, ebx, ecx = 0, edx;
  // These two by their bits: Clang 14 has no names for them.
  const bool f16c = __get_cpuid(1, &eax, &ebx, &ecx, &edx) != 0 && (ecx & bit_F16C) != 0;
  const bool avx_vnni = __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & 1u << 4) != 0;
  features.avx = __builtin_cpu_supports("avx");
  features.avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && f16c;
  features.avx_vnni = features.avx2 && avx_vnni;
  features.avx512 = features.avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bf16");
#endif
  return features;
}

ProcessorModel processor_model() {
  ProcessorModel processor;
#if defined(__x86_64__)
  unsigned eax, registers[3] = {}, signature = 0;  // the vendor's letters are in this order
  if (__get_cpuid(0, &eax, &registers[0], &registers[2], &registers[1]) != 0) {
    processor.vendor.assign(reinterpret_cast<const char*>(registers), sizeof registers);
  }
  if (__get_cpuid(1, &signature, &registers[0], &registers[1], &registers[2]) != 0) {
    const unsigned family = signature >> 8 & 15, extended_family = signature >> 20 & 255;
    const unsigned model = signature >> 4 & 15, extended_model = signature >> 16 & 15;
    processor.family = family == 15 ? family + extended_family : family;
    processor.model = family == 6 || family == 15 ? extended_model << 4 | model : model;
  }
#endif
  return processor;
}

std::string processor_name() {
#if defined(__x86_64__)
  unsigned registers[4];
  char name[3 * sizeof registers + 1] = {};
  for (unsigned i = 0; i < 3; i++) {
    if (__get_cpuid(0x80000002 + i, &registers[0], &registers[1], &registers[2], &registers[3]) == 0) return "x86-64";
    std::memcpy(name + i * sizeof registers, registers, sizeof registers);
  }
  const std::string text = name;  // some begin or end with blanks
  const size_t first = text.find_first_not_of(' ');
  return first == text.npos ? "x86-64" : text.substr(first, text.find_last_not_of(' ') + 1 - first);
#else
  return "unknown";
#endif
}

}  // namespace finermoe
