#include "format/generation_defaults.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "format/config_fields.h"

namespace finermoe {
namespace {

constexpr uint64_t most_tokens = std::numeric_limits<int32_t>::max();

// A number as Python compares it: true is 1, false is 0.
std::optional<double> number_of(const Json& value) {
  if (value.is_boolean()) return value.get<bool>() ? 1 : 0;
  return value.is_number() ? std::optional(value.get<double>()) : std::nullopt;
}

std::optional<int64_t> whole_of(const Json& value) {
  const std::optional<double> number = number_of(value);
  if (!number || std::trunc(*number) != *number || std::abs(*number) > 1e15) return std::nullopt;
  return static_cast<int64_t>(*number);
}

// An absent or null value leaves `out` as it is; -1 means off and sets it to `off`.
Status read_count(const Fields& fields, std::string_view key, uint64_t off, uint64_t& out) {
  const Json* value = fields.find(key);
  if (value == nullptr) return {};
  const auto count = whole_of(*value);
  if (!count || *count < -1 || *count > static_cast<int64_t>(most_tokens)) {
    return fields.wrong(key, format_text("a whole number from 0 to ", most_tokens, ", or -1 for none"));
  }
  out = *count == -1 ? off : static_cast<uint64_t>(*count);
  return {};
}

Status read_share(const Fields& fields, std::string_view key, double off, double& out) {
  const Json* value = fields.find(key);
  if (value == nullptr) return {};
  const auto share = number_of(*value);
  if (!share || !((*share >= 0 && *share <= 1) || *share == -1)) {
    return fields.wrong(key, "a number from 0 to 1, or -1 for off");
  }
  out = *share == -1 ? off : *share;
  return {};
}

Status read_number(const Fields& fields, std::string_view key, double least, double most, double& out) {
  const Json* value = fields.find(key);
  if (value == nullptr) return {};
  const auto number = number_of(*value);
  if (!number || !(*number >= least && *number <= most)) {
    return fields.wrong(key, format_text("a number from ", least, " to ", most));
  }
  out = *number;
  return {};
}

Status read_flag(const Fields& fields, std::string_view key, bool& out) {
  const Json* value = fields.find(key);
  if (value == nullptr) return {};
  const auto number = number_of(*value);
  if (!number || (*number != 0 && *number != 1)) return fields.wrong(key, "true or false");
  out = *number == 1;
  return {};
}

// An id, or a list of them; -1 is none. The vocabulary is not known here, so ids are not checked.
Status read_stop_ids(const Fields& fields, std::vector<int32_t>& ids) {
  constexpr std::string_view key = "eos_token_id";
  const Json* value = fields.find(key);
  if (value == nullptr) return {};
  ids.clear();
  const auto add = [&](const Json& one) -> Status {
    const auto id = whole_of(one);
    if (!id || one.is_boolean() || *id < -1 || *id > static_cast<int64_t>(most_tokens)) {
      return fields.wrong(key, "a token id, a list of them, or -1 for none");
    }
    if (*id != -1) ids.push_back(static_cast<int32_t>(*id));
    return {};
  };
  if (!value->is_array()) return add(*value);
  for (const Json& one : *value) FM_TRY(add(one));
  return {};
}

Result<Json> parse_object(std::string_view text, std::string_view name) {
  FM_ASSIGN(Json document, parse_json(text, name, FINERMOE_ERROR_CONFIG_MALFORMED));
  if (document.is_object()) return document;
  return Status(FINERMOE_ERROR_CONFIG_MALFORMED, format_text(name, ": not an object"), "a JSON object",
                document.type_name());
}

}  // namespace

Result<GenerationDefaults> GenerationDefaults::parse(std::optional<std::string_view> generation_config_json,
                                                     std::string_view config_json) {
  constexpr std::string_view config_name = "config.json", name = "generation_config.json";
  FM_ASSIGN(const Json config, parse_object(config_json, config_name));
  FM_ASSIGN(const Json generation, parse_object(generation_config_json.value_or("{}"), name));
  GenerationDefaults defaults;
  FM_TRY(read_stop_ids(Fields(config, config_name), defaults.stop_ids));
  const Fields fields(generation, name);
  FM_TRY(read_stop_ids(fields, defaults.stop_ids));
  FM_TRY(read_flag(fields, "do_sample", defaults.do_sample));
  FM_TRY(read_number(fields, "temperature", 0, 1e6, defaults.temperature));
  FM_TRY(read_count(fields, "top_k", 0, defaults.top_k));
  FM_TRY(read_share(fields, "top_p", 1, defaults.top_p));
  FM_TRY(read_share(fields, "min_p", 0, defaults.min_p));
  FM_TRY(read_share(fields, "typical_p", 1, defaults.typical_p));
  // As in transformers, a top_p of 0 keeps only the likeliest token, a min_p of 1 those equally likely, and a typical_p
  // of 0 is invalid. The options exclude these endpoints; the nearest allowed value has the same effect.
  defaults.top_p = std::max(defaults.top_p, std::numeric_limits<double>::denorm_min());
  defaults.min_p = std::min(defaults.min_p, std::nextafter(1.0, 0.0));
  if (defaults.typical_p == 0) return fields.wrong("typical_p", "a number above 0, up to 1");
  FM_TRY(read_number(fields, "repetition_penalty", 1e-6, 1e6, defaults.repetition_penalty));
  FM_TRY(read_count(fields, "max_new_tokens", 0, defaults.max_new_tokens));
  FM_TRY(read_count(fields, "min_new_tokens", 0, defaults.min_new_tokens));
  return defaults;
}

}  // namespace finermoe
