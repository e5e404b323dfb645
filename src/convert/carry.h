// The texts that a written model takes over from the one it is made of, byte for byte.
#pragma once

#include <string>
#include <vector>

#include "convert/writer.h"
#include "format/checkpoint.h"

namespace finermoe {

// Tokenizer files, generation_config.json, licences and notices; none that cannot be read.
Result<std::vector<PlannedText>> carried_texts(const Checkpoint& source);
// Of a directory or single file without regard to its weights: tokenizer files and generation_config.json.
std::vector<PlannedText> carried_texts(const std::string& path);

}  // namespace finermoe
