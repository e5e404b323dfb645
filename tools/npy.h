// NumPy's .npy files: token ids in, float32 matrices out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tool {

// Integers of one or two dimensions: each row of ids; a one-dimensional array is one row.
// `bytes` is the file's content, `name` its name in messages.
std::vector<std::vector<int32_t>> read_npy_ids(const std::string& bytes, const std::string& name);

// The header of a C-ordered float32 array [rows, columns]; the values follow it.
std::string npy_header_float32(uint64_t rows, uint64_t columns);

}  // namespace tool
