// What a writer that was told to overwrite may replace.
#pragma once

#include <string>

#include "base/status.h"

namespace finermoe {

// Ok for an empty directory; a directory that contains a model and only files that the writers write; or, if the output
// is a single file, a file. FILE_EXISTS for anything else, naming the first thing that would be lost: the user's own
// files are worth more than the trouble of choosing another name. `out` exists; `shown` is its name in messages.
Status may_replace(const std::string& out, const std::string& shown, bool single_file);

}  // namespace finermoe
