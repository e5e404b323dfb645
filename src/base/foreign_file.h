// Files that people have where a model's file should be, told by how they begin.
#pragma once

#include <optional>
#include <string_view>

#include "base/status.h"

namespace finermoe {

struct ForeignFile {
  std::string_view what;    // "a Git LFS pointer and not the file itself"
  std::string_view remedy;  // "fetch the file with `git lfs pull`"
};

// `beginning`: some hundred bytes, or all of the file.
std::optional<ForeignFile> recognise_foreign_file(std::string_view beginning);

// "model.safetensors is a Git LFS pointer …: fetch …"; `expected` says what should have been there.
Status foreign_file_error(const ForeignFile& file, std::string_view name, Code code, std::string expected);

}  // namespace finermoe
