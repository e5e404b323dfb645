// A copy of a checkpoint in its own folder, with files and individual weights changed.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "golden.h"
#include "temporary_directory.h"

class ChangedModel {
 public:
  explicit ChangedModel(const std::string& source) : directory_(source), folder_(directory_.path) {}
  ChangedModel(const ChangedModel&) = delete;

  std::string path() const { return folder_.string(); }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(folder_ / name, std::ios::binary) << text;
  }
  void remove(const std::string& name) const { std::filesystem::remove(folder_ / name); }
  // Sets elements [first, first + n) of a tensor, in whichever file it is, to `value`; BF16 and F32.
  void fill(const std::string& tensor, size_t first, size_t n, float value) const {
    for (const auto& entry : std::filesystem::directory_iterator(folder_)) {
      if (entry.path().extension() != ".safetensors") continue;
      std::string file = golden::read_file(entry.path().string());
      uint64_t header_length;
      std::memcpy(&header_length, file.data(), sizeof header_length);
      const auto header = nlohmann::json::parse(file.substr(8, header_length));
      if (!header.contains(tensor)) continue;
      const size_t size = header[tensor]["dtype"] == "F32" ? 4 : 2;
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      if (size == 2) bits >>= 16;
      const size_t begin = 8 + header_length + header[tensor]["data_offsets"][0].get<size_t>();
      for (size_t i = first; i < first + n; i++) std::memcpy(&file[begin + i * size], &bits, size);
      write(entry.path().filename().string(), file);
      return;
    }
    std::abort();  // no such tensor
  }

 private:
  TemporaryDirectory directory_;
  std::filesystem::path folder_;
};
