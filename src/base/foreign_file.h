// Files that are often found in place of a model file, recognized by their first bytes.
#pragma once

#include <optional>
#include <string_view>

#include "base/status.h"

namespace finermoe {

struct ForeignFile {
  std::string_view what;    // "a Git LFS pointer and not the file itself"
  std::string_view remedy;  // "fetch the file with `git lfs pull`"
};

// `beginning`: a few hundred bytes, or the whole file.
std::optional<ForeignFile> recognise_foreign_file(std::string_view beginning);

// "model.safetensors is a Git LFS pointer …: fetch …"; `expected` says what should have been there.
Status foreign_file_error(const ForeignFile& file, std::string_view name, Code code, std::string expected);

}  // namespace finermoe
