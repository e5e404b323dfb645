// generation_config.json, checked.
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "base/status.h"

namespace finermoe {

// The values of generation_config.json, with defaults for those it does not give.
struct GenerationDefaults {
  std::vector<int32_t> stop_ids;  // eos_token_id: a number or a list; config.json's where the file has none
  bool do_sample = false;
  double temperature = 1, top_p = 1, min_p = 0, typical_p = 1, repetition_penalty = 1;
  uint64_t top_k = 50;          // Hugging Face's default, used only with do_sample
  uint64_t max_new_tokens = 0;  // 0: not given
  uint64_t min_new_tokens = 0;
  // Reads them like GenerationConfig of transformers: 20.0 is 20, 1 is true, -1 is off or none; unknown keys are
  // ignored. An invalid value is CONFIG_VALUE.
  static Result<GenerationDefaults> parse(std::optional<std::string_view> generation_config_json,
                                          std::string_view config_json);
};

}  // namespace finermoe
