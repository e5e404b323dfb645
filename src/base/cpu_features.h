// What this processor can execute (and its operating system enables).
#pragma once

#include <string>

namespace finermoe {

struct CpuFeatures {
  bool avx = false;
  bool avx2 = false;      // AVX2, FMA, F16C
  bool avx_vnni = false;  // the same, and VNNI with VEX encoding
  bool avx512 = false;    // AVX-512 F, BW, VL, DQ, VNNI, BF16
  bool amx = false;       // the same, and AMX TILE and BF16, if the system grants them (request_amx())
};

CpuFeatures detect_cpu_features();
// Linux saves the tiles of a process only if that has asked for it; this asks, for the process and from now on. False
// if the system refuses, as it does where an alternate signal stack is too small for what it would save. Any number of
// times, from any thread.
bool request_amx();
// Whether that is worth trying, as far as the calling thread can see without asking: its own stack for signals is large
// enough. Once the system has granted tiles, every thread's is.
bool may_request_amx();

// As CPUID names it: "GenuineIntel", "AuthenticAMD", …; empty and 0 for another kind of processor.
struct ProcessorModel {
  std::string vendor;
  unsigned family = 0, model = 0;
};
ProcessorModel processor_model();
// "Intel(R) Xeon(R) Processor"; the family if the processor reports no name.
std::string processor_name();

}  // namespace finermoe
