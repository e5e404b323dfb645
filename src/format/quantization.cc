#include "format/quantization.h"

#include "format/config_fields.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

constexpr const char* source_name = "source";

Json type_json(std::optional<DType> dtype) { return !dtype ? source_name : *dtype == DType::q8 ? "q8" : "q4"; }

Result<std::optional<DType>> parse_type(const Fields& fields, std::string_view key) {
  FM_ASSIGN(std::string name, fields.get_string(key, source_name));
  for (std::optional<DType> dtype : {std::optional<DType>(), std::optional(DType::q8), std::optional(DType::q4)}) {
    if (type_json(dtype) == name) return dtype;
  }
  return fields.wrong(key, "\"q8\", \"q4\" or \"source\"");
}

// bitsandbytes leaves its settings in the file even if nothing was quantized.
bool is_switched_off(const Fields& fields, std::string_view method) {
  if (!method.empty() && method != "bitsandbytes") return false;
  bool says_so = false;
  for (const char* key : {"load_in_4bit", "load_in_8bit", "_load_in_4bit", "_load_in_8bit"}) {
    const Json* value = fields.find(key);
    if (value == nullptr) continue;
    if (*value != false && *value != 0) return false;
    says_so = true;
  }
  return says_so;
}

// The method's common name.
std::string name_of_method(const Fields& fields, const std::string& method) {
  constexpr struct {
    std::string_view method, name;
  } known[] = {{"gptq", "GPTQ"},
               {"awq", "AWQ"},
               {"fp8", "FP8"},
               {"fbgemm_fp8", "FP8 (FBGEMM)"},
               {"compressed-tensors", "compressed-tensors"},
               {"bitsandbytes", "bitsandbytes"}};
  for (const auto& one : known) {
    if (method == one.method) return std::string(one.name);
  }
  if (!method.empty()) return format_text("\"", method, "\"");
  for (const char* key : {"load_in_4bit", "load_in_8bit"}) {
    if (fields.find(key) != nullptr) return "bitsandbytes";
  }
  if (fields.find("group_size") != nullptr && fields.find("bits") != nullptr) return "MLX";
  return "a method without a name";
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

Result<std::optional<Quantization>> Quantization::parse(const Json& value, std::string_view file_name) {
  const std::string name = format_text(file_name, ": quantization_config");
  const Fields fields(value, name);
  FM_ASSIGN(std::string method, fields.get_string("quant_method", ""));
  if (is_switched_off(fields, method)) return std::optional<Quantization>();
  if (method != "finermoe") {
    const std::string known = name_of_method(fields, method);
    return Status(
        FINERMOE_ERROR_UNSUPPORTED,
        format_text(name, ": weights quantised by ", known,
                    " are not supported: use the model in BF16, F16 or F32, and `finermoe quantize` where it is to be "
                    "smaller"),
        "weights in BF16, F16 or F32, or \"finermoe\", version 1", known);
  }
  FM_ASSIGN(uint64_t version, fields.get_uint("version", 0, UINT32_MAX, 0));
  if (version != 1) {
    return Status(FINERMOE_ERROR_UNSUPPORTED,
                  format_text(name, ": version ", version, " of \"finermoe\" is not supported"), "version 1",
                  format_text("version ", version));
  }
  Quantization out;
  FM_ASSIGN(out.weights, parse_type(fields, "weights"));
  FM_ASSIGN(out.embeddings, parse_type(fields, "embeddings"));
  const Json* overrides = fields.find("overrides");
  if (overrides == nullptr) return std::optional(std::move(out));
  if (!overrides->is_array()) return fields.wrong("overrides", "a list of {\"pattern\", \"type\"}");
  for (const Json& one : *overrides) {
    if (!one.is_object()) return fields.wrong("overrides", "a list of {\"pattern\", \"type\"}");
    const Fields entry(one, name);
    Override& next = out.overrides.emplace_back();
    FM_ASSIGN(next.pattern, entry.get_string("pattern"));
    FM_ASSIGN(next.dtype, parse_type(entry, "type"));
  }
  return std::optional(std::move(out));
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
