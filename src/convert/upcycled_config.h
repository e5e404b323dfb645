// The config.json of an upcycled model.
#pragma once

#include <string>

#include "convert/convert.h"
#include "format/checkpoint.h"

namespace finermoe {

// The dense model's, completed with what the authors' FineRMoE code reads. CONFIG_INCONSISTENT, with the numbers, if a
// size is not divisible.
Result<std::string> upcycled_config(const Checkpoint& dense, const UpcycleOptions& options);

}  // namespace finermoe
