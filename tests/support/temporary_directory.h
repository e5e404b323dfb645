// A directory for the files of a test.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

// Removed with the object; starts as a copy of another directory, or empty.
class TemporaryDirectory {
 public:
  explicit TemporaryDirectory(const std::string& source = "") {
    namespace fs = std::filesystem;
    std::string pattern = (fs::temp_directory_path() / "finermoe-test-XXXXXX").string();
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path = pattern;
    if (!source.empty()) fs::copy(source, path, fs::copy_options::recursive | fs::copy_options::overwrite_existing);
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() { std::filesystem::remove_all(path); }

  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path;
};
