// Section 4 of finermoe.h: configuration and plan.
#include "api/handles.h"
#include "base/system_memory.h"
#include "cpu/cpu_device.h"
#include "format/checkpoint.h"
#include "placement/devices.h"

using namespace finermoe;
using namespace finermoe::api;

int32_t finermoe_config_open(const char* path, finermoe_config** config, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(path, "path"));
    FM_TRY(require(config, "config"));
    FM_ASSIGN(auto json, read_model_text(path, "config.json"));
    if (!json)
      return Status(FINERMOE_ERROR_FILE_NOT_FOUND, format_text(path, " has no config.json"), "config.json", "none");
    FM_ASSIGN(auto parsed, Config::parse(*json, path));
    return give(config, std::move(parsed), std::move(*json));
  });
}

int32_t finermoe_config_open_memory(const char* json, size_t json_length, finermoe_config** config,
                                    finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(json, "json"));
    FM_TRY(require(config, "config"));
    const std::string_view text = text_of(json, json_length);
    FM_ASSIGN(auto parsed, Config::parse(text, "config.json"));
    return give(config, std::move(parsed), std::string(text));
  });
}

int32_t finermoe_config_open_model(const finermoe_model* model, finermoe_config** config, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(model->model->runtime()->check_process());
    const auto loaded = model->model;
    FM_TRY(loaded->settle_head());
    FM_ASSIGN(auto resolved, loaded->model().checkpoint->resolved_config());
    FM_ASSIGN(auto json, loaded->model().checkpoint->text("config.json"));
    return give(config, std::move(resolved), std::move(json).value_or(std::string()));
  });
}
void finermoe_config_free(finermoe_config* config) { delete config; }

int32_t finermoe_config_get_info(const finermoe_config* config, finermoe_config_info* info, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(config, "config"));
    const Config& c = config->config;
    const ParameterCount parameters = count_parameters(c);
    finermoe_config_info out{};
    const std::optional<DType> blocks = c.quantization ? c.quantization->weights : std::nullopt;
    out.dtype = static_cast<int32_t>(blocks.value_or(c.dtype));
    out.model_type = c.model_type_name();
    out.hidden_size = c.hidden_size;
    out.intermediate_size = c.intermediate_size;
    out.n_layers = c.n_layers;
    out.n_moe_layers = c.n_moe_layers();
    out.n_heads = c.n_heads;
    out.n_kv_heads = c.n_kv_heads;
    out.head_size = c.head_size;
    out.vocab_size = c.vocab_size;
    out.max_positions = c.max_positions;
    if (c.is_moe()) {
      out.granularity_inter = c.router.granularity_inter;
      out.expansion_inter = c.router.expansion_inter;
      out.granularity_output = c.router.granularity_output;
      out.expansion_output = c.router.expansion_output;
      out.n_experts = c.router.n_experts();
      out.n_experts_per_token = c.router.n_experts_per_token();
      out.expert_width = c.expert_width;
      out.expert_output_width = c.expert_output_width();
      out.shared_expert_width = c.shared_expert_width;
    }
    out.has_concat_proj = c.has_concat_proj;
    out.has_separate_router = c.router.separate;
    out.norm_topk_prob = c.router.norm_topk_prob;
    out.tied_embeddings = c.tied_embeddings;
    out.rms_norm_eps = c.rms_norm_eps;
    out.rope_theta = c.rope.theta;
    out.parameters_total = parameters.total;
    out.parameters_active = parameters.active;
    out.rope_scaling = c.rope.scaling_name();
    out.rope_factor = c.rope.factor;
    out.rope_original_positions = static_cast<size_t>(c.rope.original_positions);
    out.rope_attention_factor = c.rope.attention_factor;
    out.sliding_window = c.sliding_window;
    out.n_sliding_layers = c.n_sliding_layers();
    return put_struct(out, info);
  });
}

int32_t finermoe_config_get_json(const finermoe_config* config, char* json, size_t capacity, size_t* needed,
                                 finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(config, "config"));
    return put_text(config->json, json, capacity, needed);
  });
}

int32_t finermoe_plan_options_create(finermoe_plan_options** options, finermoe_error** error) {
  return guarded(error, [&] { return give(options); });
}
void finermoe_plan_options_free(finermoe_plan_options* options) { delete options; }

int32_t finermoe_plan_options_set_session(finermoe_plan_options* options,
                                          const finermoe_session_options* session_options, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->session = session_options ? session_options->options : SessionOptions{};
    return {};
  });
}

int32_t finermoe_plan_options_set_sessions(finermoe_plan_options* options, size_t n_sessions, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(static_cast<double>(n_sessions), n_sessions <= 1u << 20, "n_sessions", "at most 1048576"));
    options->n_sessions = n_sessions;
    return {};
  });
}

int32_t finermoe_plan_options_set_threads(finermoe_plan_options* options, uint32_t n_threads, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(n_threads, n_threads <= 4096, "n_threads", "at most 4096"));
    options->n_threads = n_threads;
    return {};
  });
}

int32_t finermoe_plan_options_set_runtime(finermoe_plan_options* options, const finermoe_runtime* runtime,
                                          finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require(runtime, "runtime"));
    FM_TRY(runtime->runtime->check_process());
    options->n_threads = runtime->runtime->pool()->n_threads();
    options->device = runtime->runtime->device().device;
    options->device_memory = 0;
    return {};
  });
}

int32_t finermoe_plan_options_set_device(finermoe_plan_options* options, const char* module, const char* name,
                                         uint64_t memory, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_ASSIGN(const auto device, find_device_to_plan_for({cpu_device()}, module ? module : "", name ? name : ""));
    if (memory != 0 && !device->copies_weights()) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("memory of a device, ", memory,
                                " bytes, is for one with memory of its own: ", device->name(), " uses the machine's"),
                    "0", format_text(memory));
    }
    if (memory == 0 && device->copies_weights() && device->info().memory == 0) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                    format_text("how much memory ", device->name(), " has is not known here: give a number of bytes"),
                    "a number of bytes", "0");
    }
    options->device = device;
    options->device_memory = memory;
    return {};
  });
}

int32_t finermoe_plan_options_set_expert_cache(finermoe_plan_options* options, uint64_t bytes, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->expert_cache = bytes;
    return {};
  });
}

int32_t finermoe_plan_compute(const finermoe_config* config, const finermoe_plan_options* options, finermoe_plan* plan,
                              finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(config, "config"));
    const finermoe_plan_options intended = options ? *options : finermoe_plan_options{};
    FM_ASSIGN(const SessionOptions session, intended.session.resolved(config->config));
    const auto device = intended.device ? intended.device : cpu_device();
    const uint32_t n_threads = intended.n_threads != 0 ? intended.n_threads : available_processors();
    FM_ASSIGN(const Plan p, make_plan(config->config, *device, *cpu_device(),
                                      {session.context_length, session.kv_dtype, session.chunk, intended.n_sessions,
                                       n_threads, intended.device_memory, intended.expert_cache}));
    finermoe_plan out{};
    out.weights_embeddings = p.embeddings;
    out.weights_attention = p.attention;
    out.weights_dense = p.dense;
    out.weights_shared = p.shared;
    out.weights_routed = p.routed;
    out.weights_router = p.router;
    out.weights_total = p.weights();
    out.kv_cache = p.kv_cache;
    out.scratch = p.scratch;
    out.allocated_total = p.kv_cache + p.scratch + p.share.weights + p.expert_cache.bytes();
    out.bytes_per_token = p.bytes_per_token;
    out.weights_every_token = p.every_token;
    out.memory_available = available_memory();
    out.device_memory = p.device_memory;
    out.device_weights = p.share.weights;
    out.device_total = p.device_total;
    out.device_layers = p.share.n_layers;
    out.device_moe_layers = p.share.n_moe_layers;
    out.device_routed = p.share.routed;
    out.device_bytes_per_token = p.device_bytes_per_token;
    out.host_weights = p.weights() - p.share.stored;
    out.expert_cache = p.expert_cache.bytes();
    out.expert_cache_slots = p.expert_cache.n_slots;
    out.fetched_bytes_per_token = p.fetched_bytes_per_token;
    return put_struct(out, plan);
  });
}
