// What this processor can execute (and its operating system enables).
#pragma once

#include <string>

namespace finermoe {

struct CpuFeatures {
  bool avx = false;
  bool avx2 = false;      // AVX2, FMA, F16C
  bool avx_vnni = false;  // the same, and VNNI with VEX encoding
  bool avx512 = false;    // AVX-512 F, BW, VL, DQ, VNNI, BF16
};

CpuFeatures detect_cpu_features();

// As CPUID names it: "GenuineIntel", "AuthenticAMD", …; empty and 0 for another kind of processor.
struct ProcessorModel {
  std::string vendor;
  unsigned family = 0, model = 0;
};
ProcessorModel processor_model();
// "Intel(R) Xeon(R) Processor"; the family if the processor reports no name.
std::string processor_name();

}  // namespace finermoe
