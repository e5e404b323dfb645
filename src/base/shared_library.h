// Shared libraries that are opened at run time.
#pragma once

#include <string>

#include "base/status.h"

namespace finermoe {

// The address of a symbol, or null where the library lacks it. The library stays loaded for as long as the process
// lives: whatever came from it stays valid. FILE_NOT_FOUND, or FILE_UNREADABLE with what the system says.
Result<void*> find_in_library(const std::string& path, const char* symbol);

// The folder of the library or program that the code at an address was loaded from; empty where the system does not
// know it in full.
std::string folder_of_code(const void* address);

}  // namespace finermoe
