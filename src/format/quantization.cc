#include "format/quantization.h"

#include "format/config.h"
#include "format/config_fields.h"

namespace finermoe {
namespace {

constexpr const char* source_name = "source";

Json type_json(std::optional<DType> dtype) { return !dtype ? source_name : *dtype == DType::q8 ? "q8" : "q4"; }

Result<std::optional<DType>> parse_type(const Fields& fields, std::string_view key) {
  FM_ASSIGN(std::string name, fields.text(key, source_name));
  for (std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::q8), std::optional(DType::q4)}) {
    if (type_json(dtype) == name) return dtype;
  }
  return fields.wrong(key, "\"q8\", \"q4\" or \"source\"");
}

}  // namespace

bool matches(std::string_view pattern, std::string_view name) {
  size_t p = 0, n = 0, star = pattern.npos, resume = 0;  // the last *, and where what follows it was last tried
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      p++;
      n++;
    } else if (star != pattern.npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == pattern.npos;
}

std::optional<DType> Quantization::type_of(TensorKind kind, std::string_view name) const {
  if (!can_be_blocked(kind)) return std::nullopt;
  for (size_t i = overrides.size(); i-- > 0;) {
    if (matches(overrides[i].pattern, name)) return overrides[i].dtype;
  }
  return kind == TensorKind::embedding || kind == TensorKind::head ? embeddings : weights;
}

Result<Quantization> Quantization::parse(const Json& value, std::string_view file_name) {
  const std::string name = cat(file_name, ": quantization_config");
  const Fields fields(value, name);
  FM_ASSIGN(std::string method, fields.text("quant_method", ""));
  FM_ASSIGN(uint64_t version, fields.whole("version", 0, UINT32_MAX, 0));
  if (method != "finermoe" || version != 1) {
    return Status(
        FINERMOE_ERROR_UNSUPPORTED, cat(name, ": the method \"", method, "\", version ", version, ", is not supported"),
        "weights in BF16, F16 or F32, or \"finermoe\", version 1", cat("\"", method, "\", version ", version));
  }
  Quantization out;
  FM_ASSIGN(out.weights, parse_type(fields, "weights"));
  FM_ASSIGN(out.embeddings, parse_type(fields, "embeddings"));
  const Json* overrides = fields.find("overrides");
  if (overrides == nullptr) return out;
  if (!overrides->is_array()) return fields.wrong("overrides", "a list of {\"pattern\", \"type\"}");
  for (const Json& one : *overrides) {
    if (!one.is_object()) return fields.wrong("overrides", "a list of {\"pattern\", \"type\"}");
    const Fields entry(one, name);
    Override& next = out.overrides.emplace_back();
    FM_ASSIGN(next.pattern, entry.text("pattern"));
    FM_ASSIGN(next.dtype, parse_type(entry, "type"));
  }
  return out;
}

Json Quantization::to_json() const {
  Json out;
  out["quant_method"] = "finermoe";
  out["version"] = 1u;
  out["weights"] = type_json(weights);
  out["embeddings"] = type_json(embeddings);
  for (const Override& one : overrides) {
    Json& entry = out["overrides"].push_back(Json::object());
    entry["pattern"] = one.pattern;
    entry["type"] = type_json(one.dtype);
  }
  return out;
}

}  // namespace finermoe
