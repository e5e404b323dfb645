#include "format/config.h"
#include "format/config_fields.h"

namespace finermoe {
namespace {

// Keeps `ids` where the object has no eos_token_id.
Status parse_stop_ids(const Fields& fields, std::vector<int32_t>& ids) {
  constexpr uint64_t largest = (1u << 31) - 1;
  const Json* value = fields.find("eos_token_id");
  if (value == nullptr) return {};
  ids.clear();
  const Json list = value->is_array() ? *value : Json::array({*value});
  for (const Json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() > largest) {
      return fields.wrong("eos_token_id", "a token id or a list of them");
    }
    ids.push_back(id.get<int32_t>());
  }
  return {};
}

Result<Json> parse_object(std::string_view text, std::string_view name) {
  if (text.empty()) return Json::object();
  FM_ASSIGN(Json document, parse_json(text, name, FINERMOE_ERROR_CONFIG_MALFORMED));
  if (document.is_object()) return document;
  return Status(FINERMOE_ERROR_CONFIG_MALFORMED, cat(name, ": not an object"), "a JSON object", document.type_name());
}

}  // namespace

Result<GenerationDefaults> GenerationDefaults::parse(std::string_view generation_config_json,
                                                     std::string_view config_json) {
  constexpr uint64_t most_tokens = (1u << 31) - 1;
  FM_ASSIGN(Json config, parse_object(config_json, "config.json"));
  FM_ASSIGN(Json generation, parse_object(generation_config_json, "generation_config.json"));
  GenerationDefaults defaults;
  FM_TRY(parse_stop_ids(Fields(config, "config.json"), defaults.stop_ids));
  Fields fields(generation, "generation_config.json");
  FM_TRY(parse_stop_ids(fields, defaults.stop_ids));
  FM_ASSIGN(defaults.do_sample, fields.flag("do_sample", defaults.do_sample));
  FM_ASSIGN(defaults.temperature, fields.real("temperature", 0, 1e6, defaults.temperature));
  FM_ASSIGN(defaults.top_k, fields.whole("top_k", 0, most_tokens, defaults.top_k));
  FM_ASSIGN(defaults.top_p, fields.real("top_p", 0, 1, defaults.top_p));
  FM_ASSIGN(defaults.min_p, fields.real("min_p", 0, 1, defaults.min_p));
  FM_ASSIGN(defaults.typical_p, fields.real("typical_p", 0, 1, defaults.typical_p));
  FM_ASSIGN(defaults.repetition_penalty, fields.real("repetition_penalty", 1e-6, 1e6, defaults.repetition_penalty));
  FM_ASSIGN(defaults.max_new_tokens, fields.whole("max_new_tokens", 0, most_tokens, defaults.max_new_tokens));
  FM_ASSIGN(defaults.min_new_tokens, fields.whole("min_new_tokens", 0, most_tokens, defaults.min_new_tokens));
  return defaults;
}

}  // namespace finermoe
