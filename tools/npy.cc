#include "npy.h"

#include <cstring>
#include <limits>
#include <regex>

#include "failure.h"

namespace tool {

namespace {

constexpr std::string_view kMagic = "\x93NUMPY";

struct Header {
  char kind = 0;     // 'i' or 'u'
  size_t width = 0;  // bytes of one value
  size_t rows = 0;   // 1 for a one-dimensional array
  size_t columns = 0;
  size_t data_begin = 0;
};

[[noreturn]] void refuse(const std::string& name, const std::string& why) { throw Failure(kError, name + ": " + why); }

uint64_t parse_dimension(const std::string& digits, const std::string& name) {
  if (digits.size() > 18) refuse(name, "an array dimension of " + digits);
  return std::stoull(digits);
}

Header parse_header(const std::string& bytes, const std::string& name) {
  if (bytes.size() < 10 || bytes.compare(0, kMagic.size(), kMagic) != 0) refuse(name, "not a .npy file");
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const size_t length_bytes = byte(6) == 1 ? 2 : 4;
  const size_t begin = 8 + length_bytes;
  if (bytes.size() < begin) refuse(name, "truncated .npy header");
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) length |= byte(8 + i) << (8 * i);
  if (length > bytes.size() - begin) refuse(name, "truncated .npy header");
  const std::string text = bytes.substr(begin, length);

  std::smatch match;
  Header header;
  header.data_begin = begin + length;
  if (!std::regex_search(text, match, std::regex("'descr': *'([<>|=])([iu])([1248])'"))) {
    refuse(name, "expected an array of integers, found " + text.substr(0, 60));
  }
  header.kind = match[2].str()[0];
  header.width = static_cast<size_t>(match[3].str()[0] - '0');
  if (match[1] == ">" && header.width > 1) refuse(name, "expected little-endian values, found big-endian ones");
  if (!std::regex_search(text, match, std::regex("'shape': *\\( *([0-9]+) *,? *([0-9]*) *\\)"))) {
    refuse(name, "expected an array of one or two dimensions, found " + text.substr(0, 80));
  }
  const uint64_t first = parse_dimension(match[1], name);
  header.rows = match[2].length() > 0 ? first : 1;
  header.columns = match[2].length() > 0 ? parse_dimension(match[2], name) : first;
  if (header.rows > 1 && header.columns > 1 && std::regex_search(text, std::regex("'fortran_order': *True"))) {
    refuse(name, "expected rows one after the other, found a Fortran-ordered array");
  }
  return header;
}

int64_t load(const char* data, const Header& header) {
  uint64_t bits = 0;
  std::memcpy(&bits, data, header.width);
  const unsigned unused = static_cast<unsigned>(64 - 8 * header.width);
  if (header.kind == 'i') return static_cast<int64_t>(bits << unused) >> unused;
  return bits > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()) ? -1 : static_cast<int64_t>(bits);
}

}  // namespace

std::vector<std::vector<int32_t>> read_npy_ids(const std::string& bytes, const std::string& name) {
  const Header header = parse_header(bytes, name);
  const size_t available = (bytes.size() - header.data_begin) / header.width;
  if (header.columns != 0 && header.rows > available / header.columns) {
    refuse(name, "expected " + std::to_string(header.rows) + " x " + std::to_string(header.columns) +
                     " values, found " + std::to_string(available));
  }
  if (header.columns == 0) return {};
  std::vector<std::vector<int32_t>> rows(header.rows, std::vector<int32_t>(header.columns));
  const char* data = bytes.data() + header.data_begin;
  for (auto& row : rows) {
    for (int32_t& id : row) {
      const int64_t value = load(data, header);
      if (value < 0 || value > std::numeric_limits<int32_t>::max()) {
        refuse(name, "expected token ids, found " + std::to_string(value));
      }
      id = static_cast<int32_t>(value);
      data += header.width;
    }
  }
  return rows;
}

std::string npy_header_float32(uint64_t rows, uint64_t columns) {
  std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + std::to_string(rows) + ", " +
                     std::to_string(columns) + "), }";
  const size_t before = kMagic.size() + 4;
  text.resize((before + text.size() + 1 + 63) / 64 * 64 - before - 1, ' ');  // the data begins at a multiple of 64
  text += '\n';
  std::string header(kMagic);
  header += {'\1', '\0', static_cast<char>(text.size() & 0xff), static_cast<char>(text.size() >> 8)};
  return header + text;
}

}  // namespace tool
