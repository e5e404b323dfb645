// Recognizes, by their names, directories and tensors that belong to something other than a model of this library.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace finermoe {

// The error for a directory without `missing`, a file that every model has: says what the directory is instead, if its
// files tell.
Status missing_file_error(const File& directory, const std::string& missing);

// Whether a tensor of this name is part of an adapter (LoRA), not of a model.
bool is_adapter_tensor(std::string_view name);
Status adapter_error(std::string_view name);  // of a file or a directory

}  // namespace finermoe
