// Directories and tensors that belong to something else than a model of this library, told by their names.
#pragma once

#include <string>
#include <string_view>

#include "base/file.h"
#include "base/status.h"

namespace finermoe {

// A directory without `missing`, a file that every model has: says what it is instead, where its files tell.
Status missing_file_error(const File& directory, const std::string& missing);

// Whether a tensor of this name is a part of an adapter (LoRA), and not of a model.
bool is_adapter_tensor(std::string_view name);
Status adapter_error(std::string_view name);  // of a file or a directory

}  // namespace finermoe
