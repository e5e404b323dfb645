// What a writer that was told to overwrite may take away.
#pragma once

#include <string>

#include "base/status.h"

namespace finermoe {

// An empty directory; a directory that holds a model and nothing that no writer writes; for a single file as output a
// single file. FILE_EXISTS for all else, naming the first thing that would be lost: a person's own files are worth more
// than the trouble of another name. `out` is there; `shown` is its name in messages.
Status may_replace(const std::string& out, const std::string& shown, bool single_file);

}  // namespace finermoe
