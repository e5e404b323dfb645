// The config.json of an upcycled model.
#pragma once

#include <string>

#include "convert/convert.h"
#include "format/checkpoint.h"

namespace finermoe {

// The dense model's, completed to what the authors' FineRMoE code reads. CONFIG_INCONSISTENT with the numbers where a
// size does not divide.
Result<std::string> upcycled_config(const Checkpoint& dense, const UpcycleOptions& options);

}  // namespace finermoe
