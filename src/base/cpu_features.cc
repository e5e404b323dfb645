#include "base/cpu_features.h"

#include <csignal>
#include <cstring>

#if defined(__x86_64__)
#include <cpuid.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace finermoe {
#if defined(__x86_64__)
namespace {

constexpr int tile_data = 18;  // the number of this state in XCR0 and for arch_prctl

// Whether the system can save tiles: XCR0 enables their configuration and data, and Linux offers them to processes.
bool system_saves_tiles() {
  constexpr unsigned osxsave = 1u << 27, tiles = 3u << 17;
  constexpr int get_supported = 0x1021;  // ARCH_GET_XCOMP_SUPP
  unsigned eax, ebx, ecx = 0, edx;
  if (__get_cpuid(1, &eax, &ebx, &ecx, &edx) == 0 || (ecx & osxsave) == 0) return false;
  __asm__ volatile("xgetbv" : "=a"(eax), "=d"(edx) : "c"(0));
  uint64_t supported = 0;
  return (eax & tiles) == tiles && syscall(SYS_arch_prctl, get_supported, &supported) == 0 &&
         (supported >> tile_data & 1) != 0;
}

}  // namespace
#endif

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
  constexpr unsigned amx_bits = 1u << 22 | 1u << 24;  // BF16, TILE
  features.amx = features.avx512 && __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 &&
                 (edx & amx_bits) == amx_bits && system_saves_tiles();
#endif
  return features;
}

bool request_amx() {
#if defined(__x86_64__)
  constexpr int request_permission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, request_permission, tile_data) == 0;
#else
  return false;
#endif
}

bool may_request_amx() {
#if defined(__x86_64__)
  constexpr unsigned long least_stack_size = 51;  // AT_MINSIGSTKSZ: with all that the system may have to save
  stack_t own{};
  if (sigaltstack(nullptr, &own) != 0 || (own.ss_flags & SS_DISABLE) != 0) return true;
  return own.ss_size >= getauxval(least_stack_size);
#else
  return false;
#endif
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
