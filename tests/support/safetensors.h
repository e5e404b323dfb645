// Takes safetensors files apart and reassembles them as other tools would have written them.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <string>

#include "temporary_directory.h"

namespace files {

using Json = nlohmann::json;
namespace fs = std::filesystem;

inline std::string read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}
inline void write(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

using Directory = TemporaryDirectory;

struct Safetensors {
  Json header = Json::object();
  std::string data;

  static Safetensors parse(const std::string& bytes) {
    uint64_t size;
    std::memcpy(&size, bytes.data(), sizeof size);
    return {Json::parse(bytes.substr(8, size)), bytes.substr(8 + size)};
  }
  static Safetensors load(const std::string& path) { return parse(read(path)); }

  // The data begins `past` bytes after a multiple of 64.
  std::string bytes(size_t past = 0) const {
    std::string text = header.dump();
    text.append((64 + past - (8 + text.size()) % 64) % 64, ' ');
    const uint64_t size = text.size();
    return std::string(reinterpret_cast<const char*>(&size), sizeof size) + text + data;
  }
  void save(const std::string& path, size_t past = 0) const { write(path, bytes(past)); }

  void add(const std::string& name, const std::string& dtype, const Json& shape, const std::string& bytes) {
    header[name] = {{"dtype", dtype}, {"shape", shape}, {"data_offsets", {data.size(), data.size() + bytes.size()}}};
    data += bytes;
  }
  std::string bytes_of(const std::string& name) const {
    const uint64_t begin = header.at(name)["data_offsets"][0], end = header.at(name)["data_offsets"][1];
    return data.substr(begin, end - begin);
  }
  void rename(const std::string& from, const std::string& to) {
    header[to] = header.at(from);
    header.erase(from);
  }
  // Adds a tensor of `n` bytes before all others.
  void put_in_front(const std::string& dtype, uint64_t n) {
    for (auto& [name, tensor] : header.items()) {
      if (name == "__metadata__") continue;
      for (Json& offset : tensor["data_offsets"]) offset = offset.get<uint64_t>() + n;
    }
    header["a.first.tensor"] = {{"dtype", dtype}, {"shape", {n}}, {"data_offsets", {0, n}}};
    data.insert(0, n, '\1');
  }
};

}  // namespace files
