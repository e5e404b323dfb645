#include "format/config.h"

#include <algorithm>

#include "format/config_fields.h"
#include "format/tensor_table.h"

namespace finermoe {
namespace {

// Far beyond any model, and small enough that the bytes of the weights, of a layer's activations and of a KV cache of
// max_positions stay below 2^63.
constexpr uint64_t max_width = 1 << 24, max_vocab = (1u << 31) - 1, most_positions = 1 << 27;
constexpr uint64_t max_layers = 1 << 16, max_experts = 1 << 20, max_tensors = 1 << 24;
constexpr double max_elements = 0x1p50;

// The defaults of transformers 5 for absent keys: of Qwen2Config and of Qwen2MoeConfig, which the authors'
// FineRMoeConfig derives from.
struct Defaults {
  uint64_t hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads;
};
constexpr Defaults dense_defaults{4096, 22016, 32, 32, 32}, moe_defaults{2048, 5632, 24, 16, 16};
constexpr uint64_t default_vocab_size = 151936, default_max_positions = 32768;
constexpr double default_rms_norm_eps = 1e-6;
constexpr int64_t default_sliding_window = 4096, default_max_window_layers = 28;
constexpr uint64_t default_n_experts = 60, default_n_experts_per_token = 4;
constexpr uint64_t default_expert_width = 1408, default_shared_expert_width = 5632;

Status inconsistent(std::string_view name, std::string message, std::string expected, std::string found) {
  return Status(FINERMOE_ERROR_CONFIG_INCONSISTENT, format_text(name, ": ", message), std::move(expected),
                std::move(found));
}

Status check_divides(std::string_view name, std::string_view divisor_name, uint64_t divisor, std::string_view size_name,
                     uint64_t size) {
  if (size % divisor == 0) return {};
  return inconsistent(name, format_text(size_name, " = ", size, " is not divisible by ", divisor_name, " = ", divisor),
                      format_text("a multiple of ", divisor), format_text(size));
}

Result<ModelType> parse_model_type(const Fields& fields) {
  FM_ASSIGN(std::string text, fields.get_string("model_type"));
  if (text == "finer_moe") return ModelType::finer_moe;
  if (text == "qwen2") return ModelType::qwen2;
  if (text == "qwen2_moe") return ModelType::qwen2_moe;
  Status wrong = fields.wrong("model_type", "\"finer_moe\", \"qwen2\" or \"qwen2_moe\"");
  return Status(FINERMOE_ERROR_MODEL_TYPE, wrong.message(), wrong.expected(), wrong.found());
}

// Current transformers write "dtype", older ones "torch_dtype"; some tools put "torch." before the name.
Result<DType> parse_dtype(const Fields& fields) {
  const char* key = fields.find("dtype") ? "dtype" : "torch_dtype";
  FM_ASSIGN(std::string text, fields.get_string(key, "bfloat16"));
  std::string_view type = text;
  if (type.starts_with("torch.")) type.remove_prefix(6);
  if (type == "bfloat16") return DType::bf16;
  if (type == "float16") return DType::f16;
  if (type == "float32") return DType::f32;
  return fields.wrong(key, "\"bfloat16\", \"float16\" or \"float32\"");
}

Result<std::optional<Quantization>> parse_quantization(const Fields& fields, std::string_view name) {
  const Json* value = fields.find("quantization_config");
  if (value == nullptr) return std::optional<Quantization>();
  if (!value->is_object()) return fields.wrong("quantization_config", "an object");
  return Quantization::parse(*value, name);
}

// Settings that would change the computation and are not supported are rejected, not ignored.
Status check_supported(const Fields& fields) {
  FM_ASSIGN(std::string activation, fields.get_string("hidden_act", "silu"));
  if (activation != "silu" && activation != "swish") return fields.wrong("hidden_act", "\"silu\" or \"swish\"");
  if (const Json* layers = fields.find("per_layer_config"); layers != nullptr && !layers->empty()) {
    return fields.wrong("per_layer_config", "absent: all layers have one configuration");
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

Status parse_attention(const Fields& fields, std::string_view name, const Defaults& defaults, Config& config) {
  FM_ASSIGN(config.n_heads, fields.get_uint("num_attention_heads", 1, max_width, defaults.n_heads));
  // In transformers, an explicit null means "as many as there are heads".
  const uint64_t as_many = fields.is_null("num_key_value_heads") ? config.n_heads : defaults.n_kv_heads;
  FM_ASSIGN(config.n_kv_heads, fields.get_uint("num_key_value_heads", 1, max_width, as_many));
  FM_TRY(check_divides(name, "num_key_value_heads", config.n_kv_heads, "num_attention_heads", config.n_heads));
  FM_ASSIGN(config.head_size, fields.get_uint("head_dim", 1, max_width, config.hidden_size / config.n_heads));
  if (config.head_size == 0 || config.head_size % 2 != 0) {
    const std::string from = fields.find("head_dim") != nullptr
                                 ? format_text("head_dim = ", config.head_size)
                                 : format_text("the head size hidden_size / num_attention_heads = ", config.hidden_size,
                                               " / ", config.n_heads, " = ", config.head_size);
    return inconsistent(
        name, format_text(from, " is ", config.head_size == 0 ? "0" : "odd", ", and rotary angles need pairs"),
        "an even head size", format_text(config.head_size));
  }
  if (config.q_width() > max_width) {
    return Status(
        FINERMOE_ERROR_CONFIG_VALUE,
        format_text(name, ": ", config.n_heads, " heads of ", config.head_size, " are wider than ", max_width),
        format_text("at most ", max_width), format_text(config.q_width()));
  }
  if (config.model_type == ModelType::qwen2) return {};  // its class does not read the next key
  FM_ASSIGN(config.has_qkv_bias, fields.get_bool("qkv_bias", true));
  return {};
}

// layer_types, or what the model type's class derives from use_sliding_window and max_window_layers.
Status parse_sliding_layers(const Fields& fields, std::string_view name, bool uses_window, Config& config) {
  config.is_sliding_layer.assign(config.n_layers, false);
  const Json* types = fields.find("layer_types");
  if (types == nullptr) {
    FM_ASSIGN(const int64_t limit, fields.get_int("max_window_layers", default_max_window_layers));
    for (uint64_t layer = 0; layer < config.n_layers && uses_window; layer++) {
      const bool below = static_cast<int64_t>(layer) < limit;
      config.is_sliding_layer[layer] = config.model_type == ModelType::qwen2 ? !below : below && layer % 2 == 0;
    }
    return {};
  }
  if (!types->is_array()) return fields.wrong("layer_types", "a list of strings");
  if (types->size() != config.n_layers) {
    return inconsistent(
        name, format_text("layer_types has ", types->size(), " entries, num_hidden_layers is ", config.n_layers),
        format_text(config.n_layers, " entries"), format_text(types->size(), " entries"));
  }
  for (uint64_t layer = 0; layer < config.n_layers; layer++) {
    if (!(*types)[layer].is_string()) return fields.wrong("layer_types", "a list of strings");
    const auto& type = (*types)[layer].get_ref<const std::string&>();
    config.is_sliding_layer[layer] = type == "sliding_attention";
    if (type == "sliding_attention" || type == "full_attention" || type == "attention")
      continue;  // the last one is old
    return Status(FINERMOE_ERROR_CONFIG_VALUE, format_text(name, ": layer_types asks for \"", type, "\""),
                  "\"full_attention\" or \"sliding_attention\"", type);
  }
  return {};
}

Status parse_windows(const Fields& fields, std::string_view name, Config& config) {
  FM_ASSIGN(const bool uses_window, fields.get_bool("use_sliding_window", false));
  const bool has_window = uses_window && !fields.is_null("sliding_window");
  // With a null window Qwen2Config makes all layers full, Qwen2MoeConfig does not.
  const bool by_rule = config.model_type == ModelType::qwen2 ? has_window : uses_window;
  FM_TRY(parse_sliding_layers(fields, name, by_rule, config));
  if (config.n_sliding_layers() == 0) return {};
  if (!has_window) {
    const std::string found = uses_window ? "\"sliding_window\" is null" : "\"use_sliding_window\" is not true";
    return Status(FINERMOE_ERROR_SLIDING_WINDOW, format_text(name, ": layers have a sliding window, and ", found),
                  "use_sliding_window and sliding_window", found);
  }
  FM_ASSIGN(const int64_t window, fields.get_int("sliding_window", default_sliding_window));
  if (window < 1) {
    return Status(FINERMOE_ERROR_SLIDING_WINDOW,
                  format_text(name, ": in a sliding window of ", window, " positions a token does not even see itself"),
                  "at least 1", format_text(window));
  }
  config.sliding_window = static_cast<uint64_t>(window);
  return {};
}

Status parse_router(const Fields& fields, std::string_view name, Config& config) {
  RouterShape& router = config.router;
  const bool may_be_dense = config.model_type == ModelType::qwen2_moe;
  FM_ASSIGN(uint64_t n_experts, fields.get_uint("num_experts", may_be_dense ? 0 : 1, max_experts, default_n_experts));
  if (n_experts == 0) return {};
  FM_ASSIGN(uint64_t per_token, fields.get_uint("num_experts_per_tok", 1, max_experts, default_n_experts_per_token));
  FM_ASSIGN(router.norm_topk_prob, fields.get_bool("norm_topk_prob", false));
  if (config.model_type == ModelType::qwen2_moe) {
    router.granularity_inter = n_experts;
    router.expansion_inter = router.granularity_output = router.expansion_output = 1;
    router.softmax_over_all = true;
  } else {
    FM_ASSIGN(router.granularity_inter, fields.get_uint("G_I", 1, max_experts));
    FM_ASSIGN(router.expansion_inter, fields.get_uint("R_I", 1, max_experts));
    FM_ASSIGN(router.granularity_output, fields.get_uint("G_O", 1, max_experts));
    FM_ASSIGN(router.expansion_output, fields.get_uint("R_O", 1, max_experts));
    FM_ASSIGN(std::string type, fields.get_string("router_type", "single"));
    if (type != "single" && type != "separate") return fields.wrong("router_type", "\"single\" or \"separate\"");
    router.separate = type == "separate";
  }
  // Two factors of at most 2^20 each: neither product can overflow, and one beyond 2^20 is too large by itself.
  uint64_t n_groups = router.n_groups(), group_size = router.group_size();
  if (n_groups > max_experts || group_size > max_experts || n_groups * group_size != n_experts) {
    return inconsistent(
        name,
        format_text("num_experts = ", n_experts, " is not G_O * R_O * G_I * R_I = ", router.granularity_output, " * ",
                    router.expansion_output, " * ", router.granularity_inter, " * ", router.expansion_inter),
        format_text(router.granularity_output, " * ", router.expansion_output, " * ", router.granularity_inter, " * ",
                    router.expansion_inter),
        format_text(n_experts));
  }
  FM_TRY(check_divides(name, "G_O", router.granularity_output, "num_experts_per_tok", per_token));
  FM_TRY(check_divides(name, "G_O", router.granularity_output, "hidden_size", config.hidden_size));
  router.top_inter = per_token / router.granularity_output;
  if (router.top_inter > group_size) {
    return inconsistent(name,
                        format_text("num_experts_per_tok / G_O = ", per_token, " / ", router.granularity_output, " = ",
                                    router.top_inter, " experts are kept of each group, which has G_I * R_I = ",
                                    router.granularity_inter, " * ", router.expansion_inter, " = ", group_size),
                        format_text("at most ", group_size), format_text(router.top_inter));
  }
  return {};
}

// A layer L has experts when L is not in mlp_only_layers and (L + 1) mod decoder_sparse_step = 0.
Status parse_moe_layers(const Fields& fields, Config& config) {
  FM_ASSIGN(uint64_t step, fields.get_uint("decoder_sparse_step", 1, max_layers, 1));
  for (uint64_t layer = 0; layer < config.n_layers; layer++) config.is_moe_layer[layer] = (layer + 1) % step == 0;
  const Json* dense = fields.find("mlp_only_layers");
  if (dense == nullptr) return {};
  if (!dense->is_array()) return fields.wrong("mlp_only_layers", "a list of layers");
  for (const Json& layer : *dense) {
    if (!layer.is_number_integer()) return fields.wrong("mlp_only_layers", "a list of layers");
    // Indices of layers that do not exist are harmless, and occur in files made from deeper models.
    const bool exists = layer.is_number_unsigned() && layer.get<uint64_t>() < config.n_layers;
    if (exists) config.is_moe_layer[layer.get<uint64_t>()] = false;
  }
  return {};
}

Status parse_moe(const Fields& fields, std::string_view name, Config& config) {
  FM_TRY(parse_router(fields, name, config));
  if (!config.is_moe()) return {};
  FM_TRY(parse_moe_layers(fields, config));
  FM_ASSIGN(config.expert_width, fields.get_uint("moe_intermediate_size", 1, max_width, default_expert_width));
  FM_ASSIGN(config.shared_expert_width,
            fields.get_uint("shared_expert_intermediate_size", 0, max_width, default_shared_expert_width));
  FM_ASSIGN(config.has_concat_proj, fields.get_bool("moe_concat_proj", false));
  if (config.model_type == ModelType::qwen2_moe) {
    if (config.has_concat_proj) return fields.wrong("moe_concat_proj", "false in a qwen2_moe model");
    if (config.shared_expert_width == 0) return fields.wrong("shared_expert_intermediate_size", "at least 1");
  }
  return {};
}

// Parameters in total and per token. Evaluated in floating point first, which cannot overflow, to check the size.
template <class Number>
std::pair<Number, Number> count(const Config& config) {
  auto n = [](uint64_t size) { return static_cast<Number>(size); };
  Number h = n(config.hidden_size), q = n(config.q_width()), kv = n(config.kv_width());
  Number attention = 2 * q * h + 2 * kv * h + (config.has_qkv_bias ? q + 2 * kv : 0);
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
                  format_text(name, ": ", config.n_moe_layers(), " layers of ", config.router.n_experts(),
                              " experts have more than ", max_tensors, " tensors"),
                  format_text("at most ", max_tensors, " tensors"), format_text(experts * 3));
  }
  double total = count<double>(config).first;
  if (total > max_elements) {
    return Status(FINERMOE_ERROR_CONFIG_VALUE, format_text(name, ": these sizes make ", total, " parameters"),
                  format_text("at most ", max_elements), format_text(total));
  }
  return {};
}

}  // namespace

uint64_t Config::n_moe_layers() const {
  return static_cast<uint64_t>(std::count(is_moe_layer.begin(), is_moe_layer.end(), true));
}

uint64_t Config::first_expert_of(size_t layer) const {
  const auto end = is_moe_layer.begin() + static_cast<std::ptrdiff_t>(layer);
  return static_cast<uint64_t>(std::count(is_moe_layer.begin(), end, true)) * router.n_experts();
}

uint64_t Config::n_sliding_layers() const {
  return static_cast<uint64_t>(std::count(is_sliding_layer.begin(), is_sliding_layer.end(), true));
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
    return Status(FINERMOE_ERROR_CONFIG_MALFORMED, format_text(name, ": not an object"), "a JSON object",
                  document.type_name());
  }
  Fields fields(document, name);
  Config config;
  FM_ASSIGN(config.model_type, parse_model_type(fields));
  const Defaults& defaults = config.model_type == ModelType::qwen2 ? dense_defaults : moe_defaults;
  FM_ASSIGN(config.dtype, parse_dtype(fields));
  FM_ASSIGN(config.hidden_size, fields.get_uint("hidden_size", 1, max_width, defaults.hidden_size));
  FM_ASSIGN(config.intermediate_size, fields.get_uint("intermediate_size", 1, max_width, defaults.intermediate_size));
  FM_ASSIGN(config.n_layers, fields.get_uint("num_hidden_layers", 1, max_layers, defaults.n_layers));
  FM_ASSIGN(config.vocab_size, fields.get_uint("vocab_size", 1, max_vocab, default_vocab_size));
  FM_ASSIGN(const uint64_t max_positions,
            fields.get_uint("max_position_embeddings", 1, most_positions, default_max_positions));
  FM_ASSIGN(config.rms_norm_eps, fields.get_double("rms_norm_eps", 0, 1, default_rms_norm_eps));
  FM_ASSIGN(config.initializer_range, fields.get_double("initializer_range", 0, 1e6, config.initializer_range));
  FM_ASSIGN(config.tied_embeddings, fields.get_bool("tie_word_embeddings", false));
  FM_TRY(parse_attention(fields, name, defaults, config));
  FM_ASSIGN(config.rope, Rope::parse(fields, name, max_positions, config.head_size));
  config.max_positions = config.rope.scaled_positions(max_positions);
  FM_TRY(parse_windows(fields, name, config));
  FM_TRY(check_supported(fields));
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
