// What this processor can execute (and its operating system saves).
#pragma once

#include <string>

namespace finermoe {

struct CpuFeatures {
  bool avx2 = false;      // AVX2, FMA, F16C
  bool avx_vnni = false;  // the same, and VNNI in the encoding of AVX
  bool avx512 = false;    // AVX-512 F, BW, VL, DQ, VNNI, BF16
};

CpuFeatures detect_cpu_features();
// "Intel(R) Xeon(R) Processor"; the family where the processor does not say.
std::string processor_name();

}  // namespace finermoe
