#include "format/config.h"

#include <algorithm>

#include "format/config_fields.h"

namespace finermoe {
namespace {

// Far beyond any model, and small enough that the bytes of the weights, of a layer's activations and of a KV cache of
// max_positions stay below 2^63.
constexpr uint64_t max_width = 1 << 24, max_vocab = (1u << 31) - 1, most_positions = 1 << 27;
constexpr uint64_t max_layers = 1 << 16, max_experts = 1 << 20, max_tensors = 1 << 24;
constexpr double max_elements = 0x1p50;

Status inconsistent(std::string_view name, std::string message, std::string expected, std::string found) {
  return Status(FINERMOE_ERROR_CONFIG_INCONSISTENT, cat(name, ": ", message), std::move(expected), std::move(found));
}

Status check_divides(std::string_view name, std::string_view divisor_name, uint64_t divisor, std::string_view size_name,
                     uint64_t size) {
  if (size % divisor == 0) return {};
  return inconsistent(name, cat(size_name, " = ", size, " is not divisible by ", divisor_name, " = ", divisor),
                      cat("a multiple of ", divisor), cat(size));
}

Result<ModelType> parse_model_type(const Fields& fields) {
  FM_ASSIGN(std::string text, fields.text("model_type"));
  if (text == "finer_moe") return ModelType::finer_moe;
  if (text == "qwen2") return ModelType::qwen2;
  if (text == "qwen2_moe") return ModelType::qwen2_moe;
  Status wrong = fields.wrong("model_type", "\"finer_moe\", \"qwen2\" or \"qwen2_moe\"");
  return Status(FINERMOE_ERROR_MODEL_TYPE, wrong.message(), wrong.expected(), wrong.found());
}

// Current transformers write "dtype", older ones "torch_dtype"; some tools put "torch." before the name.
Result<DType> parse_dtype(const Fields& fields) {
  const char* key = fields.find("dtype") ? "dtype" : "torch_dtype";
  FM_ASSIGN(std::string text, fields.text(key, "bfloat16"));
  std::string_view type = text;
  if (type.starts_with("torch.")) type.remove_prefix(6);
  if (type == "bfloat16") return DType::bf16;
  if (type == "float16") return DType::f16;
  if (type == "float32") return DType::f32;
  return fields.wrong(key, "\"bfloat16\", \"float16\" or \"float32\"");
}

// The base of the rotary angles: at top level (older transformers) or in "rope_parameters" (current ones). Any scaling
// but "default", which is none, is refused.
Status parse_rope(const Fields& fields, std::string_view name, Config& config) {
  constexpr double least = 1, most = 1e18;
  bool found = fields.find("rope_theta") != nullptr;
  if (found) {
    FM_ASSIGN(config.rope_theta, fields.real("rope_theta", least, most));
  }
  for (const char* key : {"rope_scaling", "rope_parameters"}) {
    const Json* value = fields.find(key);
    if (value == nullptr) continue;
    if (!value->is_object()) return fields.wrong(key, "an object or null");
    Fields rope(*value, key);
    FM_ASSIGN(std::string older, rope.text("type", "default"));
    FM_ASSIGN(std::string type, rope.text("rope_type", older));
    FM_ASSIGN(double rotated, rope.real("partial_rotary_factor", 0, 1, 1));
    if (type != "default" || rotated != 1) {
      std::string what = type != "default" ? type : cat("partial_rotary_factor ", rotated);
      return Status(FINERMOE_ERROR_ROPE_SCALING, cat(name, ": the rope scaling \"", what, "\" is not supported"),
                    "none, or \"default\"", what);
    }
    if (rope.find("rope_theta") == nullptr) continue;
    FM_ASSIGN(double theta, rope.real("rope_theta", least, most));
    if (found && theta != config.rope_theta) {
      return inconsistent(name, cat("rope_theta is ", config.rope_theta, ", and ", theta, " in ", key),
                          cat(config.rope_theta), cat(theta));
    }
    config.rope_theta = theta;
    found = true;
  }
  return found ? Status() : fields.missing("rope_theta");
}

Result<std::optional<Quantization>> parse_quantization(const Fields& fields, std::string_view name) {
  const Json* value = fields.find("quantization_config");
  if (value == nullptr) return std::optional<Quantization>();
  if (!value->is_object()) return fields.wrong("quantization_config", "an object");
  return Quantization::parse(*value, name);
}

// What would change the computation and is not computed here is refused, not ignored.
Status check_supported(const Fields& fields, std::string_view name, const Config& config) {
  FM_ASSIGN(std::string activation, fields.text("hidden_act", "silu"));
  if (activation != "silu") return fields.wrong("hidden_act", "\"silu\"");
  FM_ASSIGN(bool has_qkv_bias, fields.flag("qkv_bias", true));
  if (!has_qkv_bias) return fields.wrong("qkv_bias", "true");
  FM_ASSIGN(bool slides, fields.flag("use_sliding_window", false));
  if (slides) {
    return Status(FINERMOE_ERROR_SLIDING_WINDOW, cat(name, ": \"use_sliding_window\" is true, and not supported"),
                  "false", "true");
  }
  if (const Json* types = fields.find("layer_types")) {
    if (!types->is_array()) return fields.wrong("layer_types", "a list of strings");
    if (types->size() != config.n_layers) {
      return inconsistent(name,
                          cat("layer_types has ", types->size(), " entries, num_hidden_layers is ", config.n_layers),
                          cat(config.n_layers, " entries"), cat(types->size(), " entries"));
    }
    for (const Json& type : *types) {
      if (!type.is_string()) return fields.wrong("layer_types", "a list of strings");
      if (type == "full_attention") continue;
      const auto& found = type.get_ref<const std::string&>();
      return Status(FINERMOE_ERROR_SLIDING_WINDOW, cat(name, ": layer_types asks for \"", found, "\""),
                    "\"full_attention\" in every layer", found);
    }
  }
  if (const Json* architectures = fields.find("architectures")) {
    bool good = architectures->is_string() || architectures->is_array();
    if (architectures->is_array()) {
      good = std::all_of(architectures->begin(), architectures->end(), [](const Json& one) { return one.is_string(); });
    }
    if (!good) return fields.wrong("architectures", "a list of strings or a string");
  }
  return {};
}

Status parse_attention(const Fields& fields, std::string_view name, Config& config) {
  FM_ASSIGN(config.n_heads, fields.whole("num_attention_heads", 1, max_width));
  // An explicit null is transformers' word for "as many as there are heads".
  FM_ASSIGN(config.n_kv_heads, fields.whole("num_key_value_heads", 1, max_width, config.n_heads));
  FM_TRY(check_divides(name, "num_attention_heads", config.n_heads, "hidden_size", config.hidden_size));
  FM_TRY(check_divides(name, "num_key_value_heads", config.n_kv_heads, "num_attention_heads", config.n_heads));
  config.head_size = config.hidden_size / config.n_heads;
  FM_ASSIGN(uint64_t head_dim, fields.whole("head_dim", 1, max_width, config.head_size));
  if (head_dim != config.head_size) {
    return inconsistent(name,
                        cat("head_dim = ", head_dim, " is not hidden_size / num_attention_heads = ", config.hidden_size,
                            " / ", config.n_heads, " = ", config.head_size),
                        cat(config.head_size), cat(head_dim));
  }
  if (config.head_size % 2 != 0) {
    return inconsistent(name,
                        cat("the head size hidden_size / num_attention_heads = ", config.hidden_size, " / ",
                            config.n_heads, " = ", config.head_size, " is odd, and rotary angles need pairs"),
                        "an even head size", cat(config.head_size));
  }
  return {};
}

Status parse_router(const Fields& fields, std::string_view name, Config& config) {
  RouterShape& router = config.router;
  FM_ASSIGN(uint64_t n_experts, fields.whole("num_experts", 1, max_experts));
  FM_ASSIGN(uint64_t per_token, fields.whole("num_experts_per_tok", 1, max_experts));
  FM_ASSIGN(router.norm_topk_prob, fields.flag("norm_topk_prob", false));
  if (config.model_type == ModelType::qwen2_moe) {
    router.granularity_inter = n_experts;
    router.expansion_inter = router.granularity_output = router.expansion_output = 1;
    router.softmax_over_all = true;
  } else {
    FM_ASSIGN(router.granularity_inter, fields.whole("G_I", 1, max_experts));
    FM_ASSIGN(router.expansion_inter, fields.whole("R_I", 1, max_experts));
    FM_ASSIGN(router.granularity_output, fields.whole("G_O", 1, max_experts));
    FM_ASSIGN(router.expansion_output, fields.whole("R_O", 1, max_experts));
    FM_ASSIGN(std::string type, fields.text("router_type", "single"));
    if (type != "single" && type != "separate") return fields.wrong("router_type", "\"single\" or \"separate\"");
    router.separate = type == "separate";
  }
  // Two factors of at most 2^20 each: neither half can overflow, and a half beyond 2^20 is too large by itself.
  uint64_t n_groups = router.n_groups(), group_size = router.group_size();
  if (n_groups > max_experts || group_size > max_experts || n_groups * group_size != n_experts) {
    return inconsistent(
        name,
        cat("num_experts = ", n_experts, " is not G_O * R_O * G_I * R_I = ", router.granularity_output, " * ",
            router.expansion_output, " * ", router.granularity_inter, " * ", router.expansion_inter),
        cat(router.granularity_output, " * ", router.expansion_output, " * ", router.granularity_inter, " * ",
            router.expansion_inter),
        cat(n_experts));
  }
  FM_TRY(check_divides(name, "G_O", router.granularity_output, "num_experts_per_tok", per_token));
  FM_TRY(check_divides(name, "G_O", router.granularity_output, "hidden_size", config.hidden_size));
  router.top_inter = per_token / router.granularity_output;
  if (router.top_inter > group_size) {
    return inconsistent(name,
                        cat("num_experts_per_tok / G_O = ", per_token, " / ", router.granularity_output, " = ",
                            router.top_inter, " experts are kept of each group, which has G_I * R_I = ",
                            router.granularity_inter, " * ", router.expansion_inter, " = ", group_size),
                        cat("at most ", group_size), cat(router.top_inter));
  }
  return {};
}

// A layer L has experts when L is not in mlp_only_layers and (L + 1) mod decoder_sparse_step = 0.
Status parse_moe_layers(const Fields& fields, Config& config) {
  FM_ASSIGN(uint64_t step, fields.whole("decoder_sparse_step", 1, max_layers, 1));
  for (uint64_t layer = 0; layer < config.n_layers; layer++) config.is_moe_layer[layer] = (layer + 1) % step == 0;
  const Json* dense = fields.find("mlp_only_layers");
  if (dense == nullptr) return {};
  if (!dense->is_array()) return fields.wrong("mlp_only_layers", "a list of layers");
  for (const Json& layer : *dense) {
    if (!layer.is_number_unsigned()) return fields.wrong("mlp_only_layers", "a list of layers");
    // Layers beyond the last are harmless, and stand in files made from deeper models.
    if (layer.get<uint64_t>() < config.n_layers) config.is_moe_layer[layer.get<uint64_t>()] = false;
  }
  return {};
}

Status parse_moe(const Fields& fields, std::string_view name, Config& config) {
  FM_TRY(parse_router(fields, name, config));
  FM_TRY(parse_moe_layers(fields, config));
  FM_ASSIGN(config.expert_width, fields.whole("moe_intermediate_size", 1, max_width));
  FM_ASSIGN(config.shared_expert_width, fields.whole("shared_expert_intermediate_size", 0, max_width));
  FM_ASSIGN(config.has_concat_proj, fields.flag("moe_concat_proj", false));
  if (config.model_type == ModelType::qwen2_moe) {
    if (config.has_concat_proj) return fields.wrong("moe_concat_proj", "false in a qwen2_moe model");
    if (config.shared_expert_width == 0) return fields.wrong("shared_expert_intermediate_size", "at least 1");
  }
  return {};
}

// Parameters in total and per token. In floating point it cannot overflow, which is how sizes are checked first.
template <class Number>
std::pair<Number, Number> count(const Config& config) {
  auto n = [](uint64_t size) { return static_cast<Number>(size); };
  Number h = n(config.hidden_size), kv = n(config.kv_width());
  Number attention = 2 * h * h + h + 2 * (kv * h + kv);
  Number moe_layers = n(config.n_moe_layers()), dense_layers = n(config.n_layers) - moe_layers;
  Number total = n(config.vocab_size) * h * (config.tied_embeddings ? 1 : 2) + h;
  total += n(config.n_layers) * (attention + 2 * h) + dense_layers * 3 * n(config.intermediate_size) * h;
  if (!config.is_moe()) return {total, total};
  const RouterShape& router = config.router;
  Number shared = config.shared_expert_width == 0 ? 0 : 3 * n(config.shared_expert_width) * h + h;
  Number expert = n(config.expert_width) * (2 * h + n(config.expert_output_width()));
  Number common = n(router.n_experts()) * h + shared;
  if (router.separate) common += n(router.n_groups()) * h;
  if (config.has_concat_proj) common += h * h;
  total += moe_layers * common;
  return {total + moe_layers * n(router.n_experts()) * expert,
          total + moe_layers * n(router.n_experts_per_token()) * expert};
}

Status check_total(std::string_view name, const Config& config) {
  uint64_t experts = config.n_moe_layers() * config.router.n_experts();  // at most 2^36
  if (experts * 3 > max_tensors) {
    return Status(FINERMOE_ERROR_CONFIG_VALUE,
                  cat(name, ": ", config.n_moe_layers(), " layers of ", config.router.n_experts(),
                      " experts have more than ", max_tensors, " tensors"),
                  cat("at most ", max_tensors, " tensors"), cat(experts * 3));
  }
  double total = count<double>(config).first;
  if (total > max_elements) {
    return Status(FINERMOE_ERROR_CONFIG_VALUE, cat(name, ": these sizes make ", total, " parameters"),
                  cat("at most ", max_elements), cat(total));
  }
  return {};
}

}  // namespace

uint64_t Config::n_moe_layers() const {
  return static_cast<uint64_t>(std::count(is_moe_layer.begin(), is_moe_layer.end(), true));
}

DType Config::type_of(const TensorSpec& spec) const {
  const std::optional<DType> blocks = quantization ? quantization->type_of(spec.kind, spec.name) : std::nullopt;
  return blocks.value_or(dtype);
}

const char* Config::model_type_name() const {
  return model_type == ModelType::finer_moe ? "finer_moe" : model_type == ModelType::qwen2 ? "qwen2" : "qwen2_moe";
}

Result<Config> Config::parse(std::string_view json, std::string_view name) {
  FM_ASSIGN(Json document, parse_json(json, name, FINERMOE_ERROR_CONFIG_MALFORMED));
  if (!document.is_object()) {
    return Status(FINERMOE_ERROR_CONFIG_MALFORMED, cat(name, ": not an object"), "a JSON object", document.type_name());
  }
  Fields fields(document, name);
  Config config;
  FM_ASSIGN(config.model_type, parse_model_type(fields));
  FM_ASSIGN(config.dtype, parse_dtype(fields));
  FM_ASSIGN(config.hidden_size, fields.whole("hidden_size", 1, max_width));
  FM_ASSIGN(config.intermediate_size, fields.whole("intermediate_size", 1, max_width));
  FM_ASSIGN(config.n_layers, fields.whole("num_hidden_layers", 1, max_layers));
  FM_ASSIGN(config.vocab_size, fields.whole("vocab_size", 1, max_vocab));
  FM_ASSIGN(config.max_positions, fields.whole("max_position_embeddings", 1, most_positions));
  FM_ASSIGN(config.rms_norm_eps, fields.real("rms_norm_eps", 1e-30, 1));
  FM_ASSIGN(config.initializer_range, fields.real("initializer_range", 0, 1e6, config.initializer_range));
  FM_ASSIGN(config.tied_embeddings, fields.flag("tie_word_embeddings", false));
  FM_TRY(parse_attention(fields, name, config));
  FM_TRY(parse_rope(fields, name, config));
  FM_TRY(check_supported(fields, name, config));
  FM_ASSIGN(config.quantization, parse_quantization(fields, name));
  config.is_moe_layer.assign(config.n_layers, false);
  if (config.model_type != ModelType::qwen2) FM_TRY(parse_moe(fields, name, config));
  FM_TRY(check_total(name, config));
  return config;
}

ParameterCount count_parameters(const Config& config) {
  auto [total, active] = count<uint64_t>(config);
  return {total, active};
}

}  // namespace finermoe
