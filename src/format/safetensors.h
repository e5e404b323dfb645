// The header of one safetensors file: 8 bytes of length (little endian), JSON of that length, then the data.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/blocks.h"
#include "base/file.h"
#include "base/status.h"

namespace finermoe {

struct SafetensorsEntry {
  std::string_view name;       // in the header's text, or in escaped_names
  std::optional<DType> dtype;  // a block format's matrix has the rows and columns of its whole panels
  std::string dtype_name;      // as written, if it is none of ours
  uint64_t rank = 0;
  uint64_t rows = 0, columns = 0;  // as in Tensor; ranks other than 2 are flattened to a vector
  uint64_t begin = 0, end = 0;     // in the data
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the text's order
  std::vector<std::pair<std::string, std::string>> metadata;
  std::list<std::string> escaped_names;  // names that the text spells with escapes

  // Checks everything that can be checked within one file, except for duplicate names.
  static Result<SafetensorsHeader> parse(std::string_view json, uint64_t data_size, std::string_view file_name);
};

constexpr uint64_t safetensors_prefix_size = 8;
// What safetensors_header_size looks at: enough to recognize a file that is not a safetensors file.
constexpr uint64_t safetensors_beginning_size = 512;

// The header's length, read from the beginning of a file and checked against the file's size.
// `read_text` returns up to the requested number of bytes following the length; it is called only if the length does
// not fit, to tell a truncated file from a wrong length.
Result<uint64_t> safetensors_header_size(std::span<const std::byte> beginning, uint64_t file_size,
                                         std::string_view file_name,
                                         FunctionRef<Result<std::string>(uint64_t size)> read_text);

}  // namespace finermoe
