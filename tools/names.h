// The names of element types and instruction sets.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tool {

int32_t dtype_code(const std::string& name);  // "f32", "f16", "bf16", "q8", "q4" to FINERMOE_DTYPE_…
const char* dtype_name(int32_t dtype);
std::vector<std::string> dtype_names(uint32_t dtypes);  // of the bits 1 << FINERMOE_DTYPE_…

const char* isa_name(int32_t isa);  // the value of --isa for FINERMOE_ISA_…

}  // namespace tool
