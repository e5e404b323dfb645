// The texts that are copied, byte for byte, from a source model to the one made from it.
#pragma once

#include <string>
#include <vector>

#include "convert/writer.h"
#include "format/checkpoint.h"

namespace finermoe {

// Tokenizer files, generation_config.json, licenses and notices; unreadable ones are skipped.
Result<std::vector<PlannedText>> carried_texts(const Checkpoint& source);
// From a directory or a single file, whether or not it has weights: tokenizer files and generation_config.json.
std::vector<PlannedText> carried_texts(const std::string& path);

}  // namespace finermoe
