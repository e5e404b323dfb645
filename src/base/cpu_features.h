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
// "Intel(R) Xeon(R) Processor"; the family if the processor reports no name.
std::string processor_name();

}  // namespace finermoe
