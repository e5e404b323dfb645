#include "names.h"

#include <finermoe.h>

#include <algorithm>
#include <iterator>

namespace tool {

namespace {
constexpr const char* names_of_dtypes[] = {"f32", "f16", "bf16", "q8", "q4"};  // in the order of FINERMOE_DTYPE_…
}

int32_t dtype_code(const std::string& name) {
  const auto place = std::find(std::begin(names_of_dtypes), std::end(names_of_dtypes), name);
  return place == std::end(names_of_dtypes) ? FINERMOE_DTYPE_F32
                                            : static_cast<int32_t>(place - std::begin(names_of_dtypes));
}

const char* dtype_name(int32_t dtype) {
  return dtype >= 0 && dtype <= FINERMOE_DTYPE_Q4 ? names_of_dtypes[dtype] : "unknown";
}

std::vector<std::string> dtype_names(uint32_t dtypes) {
  std::vector<std::string> names;
  for (int32_t dtype = 0; dtypes >> dtype != 0; dtype++) {
    if ((dtypes >> dtype & 1) != 0) names.emplace_back(dtype_name(dtype));
  }
  return names;
}

const char* isa_name(int32_t isa) {
  return isa == FINERMOE_ISA_AMX      ? "amx"
         : isa == FINERMOE_ISA_AVX512 ? "avx512"
         : isa == FINERMOE_ISA_AVX2   ? "avx2"
                                      : "portable";
}

}  // namespace tool
