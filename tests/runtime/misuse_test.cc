// Wrong calls: every function of the header with NULL for every pointer, structs of other versions, strange numbers.
#include <cmath>
#include <cstring>
#include <limits>

#include "../support/golden.h"
#include "../support/handles.h"

namespace {

struct Call {
  const char* name;
  int32_t (*with_nulls)(finermoe_error** e);
};

const Call calls[] = {
    {"finermoe_cancel_create", [](finermoe_error** e) { return finermoe_cancel_create(nullptr, e); }},
    {"finermoe_runtime_options_create", [](finermoe_error** e) { return finermoe_runtime_options_create(nullptr, e); }},
    {"finermoe_runtime_options_set_threads",
     [](finermoe_error** e) { return finermoe_runtime_options_set_threads(nullptr, 1, e); }},
    {"finermoe_runtime_options_set_isa",
     [](finermoe_error** e) { return finermoe_runtime_options_set_isa(nullptr, 1, e); }},
    {"finermoe_runtime_options_set_blas",
     [](finermoe_error** e) { return finermoe_runtime_options_set_blas(nullptr, nullptr, e); }},
    {"finermoe_runtime_options_set_memory_limit",
     [](finermoe_error** e) { return finermoe_runtime_options_set_memory_limit(nullptr, 1, e); }},
    {"finermoe_runtime_options_set_log",
     [](finermoe_error** e) { return finermoe_runtime_options_set_log(nullptr, nullptr, nullptr, e); }},
    {"finermoe_runtime_options_set_executor",
     [](finermoe_error** e) { return finermoe_runtime_options_set_executor(nullptr, nullptr, nullptr, 1, e); }},
    {"finermoe_device_count", [](finermoe_error** e) { return finermoe_device_count(nullptr, nullptr, e); }},
    {"finermoe_device_get_info", [](finermoe_error** e) { return finermoe_device_get_info(nullptr, 0, nullptr, e); }},
    {"finermoe_runtime_options_set_device",
     [](finermoe_error** e) { return finermoe_runtime_options_set_device(nullptr, "cpu", e); }},
    {"finermoe_runtime_options_set_device_module",
     [](finermoe_error** e) { return finermoe_runtime_options_set_device_module(nullptr, nullptr, e); }},
    {"finermoe_model_options_set_device_weights",
     [](finermoe_error** e) { return finermoe_model_options_set_device_weights(nullptr, 0, e); }},
    {"finermoe_model_options_set_expert_cache",
     [](finermoe_error** e) { return finermoe_model_options_set_expert_cache(nullptr, 0, e); }},
    {"finermoe_plan_options_set_device",
     [](finermoe_error** e) { return finermoe_plan_options_set_device(nullptr, nullptr, nullptr, 0, e); }},
    {"finermoe_plan_options_set_expert_cache",
     [](finermoe_error** e) { return finermoe_plan_options_set_expert_cache(nullptr, 0, e); }},
    {"finermoe_model_get_expert_cache",
     [](finermoe_error** e) { return finermoe_model_get_expert_cache(nullptr, nullptr, e); }},
    {"finermoe_model_options_set_expert_device",
     [](finermoe_error** e) { return finermoe_model_options_set_expert_device(nullptr, nullptr, e); }},
    {"finermoe_runtime_create", [](finermoe_error** e) { return finermoe_runtime_create(nullptr, nullptr, e); }},
    {"finermoe_runtime_get_info", [](finermoe_error** e) { return finermoe_runtime_get_info(nullptr, nullptr, e); }},
    {"finermoe_config_open", [](finermoe_error** e) { return finermoe_config_open(nullptr, nullptr, e); }},
    {"finermoe_config_open_memory",
     [](finermoe_error** e) { return finermoe_config_open_memory(nullptr, 1, nullptr, e); }},
    {"finermoe_config_open_model", [](finermoe_error** e) { return finermoe_config_open_model(nullptr, nullptr, e); }},
    {"finermoe_config_get_info", [](finermoe_error** e) { return finermoe_config_get_info(nullptr, nullptr, e); }},
    {"finermoe_plan_options_create", [](finermoe_error** e) { return finermoe_plan_options_create(nullptr, e); }},
    {"finermoe_plan_options_set_session",
     [](finermoe_error** e) { return finermoe_plan_options_set_session(nullptr, nullptr, e); }},
    {"finermoe_plan_options_set_sessions",
     [](finermoe_error** e) { return finermoe_plan_options_set_sessions(nullptr, 1, e); }},
    {"finermoe_plan_options_set_threads",
     [](finermoe_error** e) { return finermoe_plan_options_set_threads(nullptr, 1, e); }},
    {"finermoe_plan_options_set_runtime",
     [](finermoe_error** e) { return finermoe_plan_options_set_runtime(nullptr, nullptr, e); }},
    {"finermoe_plan_compute", [](finermoe_error** e) { return finermoe_plan_compute(nullptr, nullptr, nullptr, e); }},
    {"finermoe_model_options_create", [](finermoe_error** e) { return finermoe_model_options_create(nullptr, e); }},
    {"finermoe_model_options_set_runtime",
     [](finermoe_error** e) { return finermoe_model_options_set_runtime(nullptr, nullptr, e); }},
    {"finermoe_model_options_set_copy",
     [](finermoe_error** e) { return finermoe_model_options_set_copy(nullptr, 1, e); }},
    {"finermoe_model_options_set_verify",
     [](finermoe_error** e) { return finermoe_model_options_set_verify(nullptr, 1, e); }},
    {"finermoe_model_options_set_lock",
     [](finermoe_error** e) { return finermoe_model_options_set_lock(nullptr, FINERMOE_LOCK_NONE, e); }},
    {"finermoe_model_options_set_expert_budget",
     [](finermoe_error** e) { return finermoe_model_options_set_expert_budget(nullptr, 0, e); }},
    {"finermoe_model_options_set_prefetch",
     [](finermoe_error** e) { return finermoe_model_options_set_prefetch(nullptr, FINERMOE_PREFETCH_ON, e); }},
    {"finermoe_model_options_set_progress",
     [](finermoe_error** e) { return finermoe_model_options_set_progress(nullptr, nullptr, nullptr, e); }},
    {"finermoe_model_options_set_cancel",
     [](finermoe_error** e) { return finermoe_model_options_set_cancel(nullptr, nullptr, e); }},
    {"finermoe_model_open", [](finermoe_error** e) { return finermoe_model_open(nullptr, nullptr, nullptr, e); }},
    {"finermoe_model_open_fd", [](finermoe_error** e) { return finermoe_model_open_fd(1, nullptr, nullptr, e); }},
    {"finermoe_model_open_memory",
     [](finermoe_error** e) { return finermoe_model_open_memory(nullptr, 1, nullptr, nullptr, e); }},
    {"finermoe_runtime_open_model",
     [](finermoe_error** e) { return finermoe_runtime_open_model(nullptr, nullptr, e); }},
    {"finermoe_model_expert_similarity",
     [](finermoe_error** e) { return finermoe_model_expert_similarity(nullptr, 1, nullptr, nullptr, e); }},
    {"finermoe_tokenizer_open", [](finermoe_error** e) { return finermoe_tokenizer_open(nullptr, nullptr, e); }},
    {"finermoe_tokenizer_open_memory",
     [](finermoe_error** e) { return finermoe_tokenizer_open_memory(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_tokenizer_open_model",
     [](finermoe_error** e) { return finermoe_tokenizer_open_model(nullptr, nullptr, e); }},
    {"finermoe_tokenizer_get_info",
     [](finermoe_error** e) { return finermoe_tokenizer_get_info(nullptr, nullptr, e); }},
    {"finermoe_tokenizer_encode",
     [](finermoe_error** e) {
       return finermoe_tokenizer_encode(nullptr, nullptr, 1, 1, nullptr, nullptr, 1, nullptr, e);
     }},
    {"finermoe_tokenizer_count",
     [](finermoe_error** e) { return finermoe_tokenizer_count(nullptr, nullptr, 1, 1, nullptr, e); }},
    {"finermoe_tokenizer_decode",
     [](finermoe_error** e) { return finermoe_tokenizer_decode(nullptr, nullptr, 1, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_tokenizer_token",
     [](finermoe_error** e) { return finermoe_tokenizer_token(nullptr, 1, nullptr, 1, nullptr, nullptr, e); }},
    {"finermoe_tokenizer_find",
     [](finermoe_error** e) { return finermoe_tokenizer_find(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_decoder_create", [](finermoe_error** e) { return finermoe_decoder_create(nullptr, 1, nullptr, e); }},
    {"finermoe_decoder_push",
     [](finermoe_error** e) { return finermoe_decoder_push(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_decoder_flush",
     [](finermoe_error** e) { return finermoe_decoder_flush(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_chat_create", [](finermoe_error** e) { return finermoe_chat_create(nullptr, e); }},
    {"finermoe_chat_add", [](finermoe_error** e) { return finermoe_chat_add(nullptr, nullptr, nullptr, 1, e); }},
    {"finermoe_chat_encode",
     [](finermoe_error** e) { return finermoe_chat_encode(nullptr, nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_chat_render",
     [](finermoe_error** e) { return finermoe_chat_render(nullptr, nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_session_options_create", [](finermoe_error** e) { return finermoe_session_options_create(nullptr, e); }},
    {"finermoe_session_options_set_context_length",
     [](finermoe_error** e) { return finermoe_session_options_set_context_length(nullptr, 1, e); }},
    {"finermoe_session_options_set_kv_dtype",
     [](finermoe_error** e) { return finermoe_session_options_set_kv_dtype(nullptr, 1, e); }},
    {"finermoe_session_options_set_chunk",
     [](finermoe_error** e) { return finermoe_session_options_set_chunk(nullptr, 1, e); }},
    {"finermoe_session_options_set_progress",
     [](finermoe_error** e) { return finermoe_session_options_set_progress(nullptr, nullptr, nullptr, e); }},
    {"finermoe_session_create",
     [](finermoe_error** e) { return finermoe_session_create(nullptr, nullptr, nullptr, e); }},
    {"finermoe_session_append",
     [](finermoe_error** e) { return finermoe_session_append(nullptr, nullptr, 1, 1, nullptr, e); }},
    {"finermoe_session_append_rows",
     [](finermoe_error** e) { return finermoe_session_append_rows(nullptr, nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_session_logits",
     [](finermoe_error** e) { return finermoe_session_logits(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_session_get_info", [](finermoe_error** e) { return finermoe_session_get_info(nullptr, nullptr, e); }},
    {"finermoe_session_tokens",
     [](finermoe_error** e) { return finermoe_session_tokens(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_session_truncate", [](finermoe_error** e) { return finermoe_session_truncate(nullptr, 1, e); }},
    {"finermoe_session_reset", [](finermoe_error** e) { return finermoe_session_reset(nullptr, e); }},
    {"finermoe_session_fork", [](finermoe_error** e) { return finermoe_session_fork(nullptr, nullptr, e); }},
    {"finermoe_session_save", [](finermoe_error** e) { return finermoe_session_save(nullptr, nullptr, e); }},
    {"finermoe_session_restore", [](finermoe_error** e) { return finermoe_session_restore(nullptr, nullptr, e); }},
    {"finermoe_session_set_trace", [](finermoe_error** e) { return finermoe_session_set_trace(nullptr, nullptr, e); }},
    {"finermoe_trace_create", [](finermoe_error** e) { return finermoe_trace_create(nullptr, 1, nullptr, e); }},
    {"finermoe_trace_clear", [](finermoe_error** e) { return finermoe_trace_clear(nullptr, e); }},
    {"finermoe_trace_get_info", [](finermoe_error** e) { return finermoe_trace_get_info(nullptr, nullptr, e); }},
    {"finermoe_trace_layers",
     [](finermoe_error** e) { return finermoe_trace_layers(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_experts",
     [](finermoe_error** e) { return finermoe_trace_experts(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_weights",
     [](finermoe_error** e) { return finermoe_trace_weights(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_groups",
     [](finermoe_error** e) { return finermoe_trace_groups(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_logits",
     [](finermoe_error** e) { return finermoe_trace_logits(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_usage",
     [](finermoe_error** e) { return finermoe_trace_usage(nullptr, 1, nullptr, 1, nullptr, e); }},
    {"finermoe_trace_balance_loss",
     [](finermoe_error** e) { return finermoe_trace_balance_loss(nullptr, 1, nullptr, e); }},
    {"finermoe_generation_options_create",
     [](finermoe_error** e) { return finermoe_generation_options_create(nullptr, nullptr, e); }},
    {"finermoe_generation_options_set_max_tokens",
     [](finermoe_error** e) { return finermoe_generation_options_set_max_tokens(nullptr, 1, e); }},
    {"finermoe_generation_options_set_min_tokens",
     [](finermoe_error** e) { return finermoe_generation_options_set_min_tokens(nullptr, 1, e); }},
    {"finermoe_generation_options_set_temperature",
     [](finermoe_error** e) { return finermoe_generation_options_set_temperature(nullptr, 1, e); }},
    {"finermoe_generation_options_set_top_k",
     [](finermoe_error** e) { return finermoe_generation_options_set_top_k(nullptr, 1, e); }},
    {"finermoe_generation_options_set_top_p",
     [](finermoe_error** e) { return finermoe_generation_options_set_top_p(nullptr, 1, e); }},
    {"finermoe_generation_options_set_min_p",
     [](finermoe_error** e) { return finermoe_generation_options_set_min_p(nullptr, 1, e); }},
    {"finermoe_generation_options_set_typical_p",
     [](finermoe_error** e) { return finermoe_generation_options_set_typical_p(nullptr, 1, e); }},
    {"finermoe_generation_options_set_repetition_penalty",
     [](finermoe_error** e) { return finermoe_generation_options_set_repetition_penalty(nullptr, 1, e); }},
    {"finermoe_generation_options_set_frequency_penalty",
     [](finermoe_error** e) { return finermoe_generation_options_set_frequency_penalty(nullptr, 1, e); }},
    {"finermoe_generation_options_set_presence_penalty",
     [](finermoe_error** e) { return finermoe_generation_options_set_presence_penalty(nullptr, 1, e); }},
    {"finermoe_generation_options_set_seed",
     [](finermoe_error** e) { return finermoe_generation_options_set_seed(nullptr, 1, e); }},
    {"finermoe_generation_options_add_logit_bias",
     [](finermoe_error** e) { return finermoe_generation_options_add_logit_bias(nullptr, 1, 1, e); }},
    {"finermoe_generation_options_add_banned_token",
     [](finermoe_error** e) { return finermoe_generation_options_add_banned_token(nullptr, 1, e); }},
    {"finermoe_generation_options_add_stop_token",
     [](finermoe_error** e) { return finermoe_generation_options_add_stop_token(nullptr, 1, e); }},
    {"finermoe_generation_options_clear_stop_tokens",
     [](finermoe_error** e) { return finermoe_generation_options_clear_stop_tokens(nullptr, e); }},
    {"finermoe_generation_options_add_stop_string",
     [](finermoe_error** e) { return finermoe_generation_options_add_stop_string(nullptr, nullptr, 1, e); }},
    {"finermoe_generation_options_set_ignore_eos",
     [](finermoe_error** e) { return finermoe_generation_options_set_ignore_eos(nullptr, 1, e); }},
    {"finermoe_generation_options_set_top_logprobs",
     [](finermoe_error** e) { return finermoe_generation_options_set_top_logprobs(nullptr, 1, e); }},
    {"finermoe_generation_options_set_show_special",
     [](finermoe_error** e) { return finermoe_generation_options_set_show_special(nullptr, 1, e); }},
    {"finermoe_generation_options_set_draft",
     [](finermoe_error** e) { return finermoe_generation_options_set_draft(nullptr, nullptr, 1, e); }},
    {"finermoe_generation_options_set_lookup",
     [](finermoe_error** e) { return finermoe_generation_options_set_lookup(nullptr, 1, e); }},
    {"finermoe_generation_options_get_info",
     [](finermoe_error** e) { return finermoe_generation_options_get_info(nullptr, nullptr, e); }},
    {"finermoe_generation_create",
     [](finermoe_error** e) { return finermoe_generation_create(nullptr, nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_generation_create_text",
     [](finermoe_error** e) { return finermoe_generation_create_text(nullptr, nullptr, nullptr, 1, 1, nullptr, e); }},
    {"finermoe_generation_create_chat",
     [](finermoe_error** e) { return finermoe_generation_create_chat(nullptr, nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_generation_next",
     [](finermoe_error** e) { return finermoe_generation_next(nullptr, nullptr, nullptr, e); }},
    {"finermoe_generation_prepare",
     [](finermoe_error** e) { return finermoe_generation_prepare(nullptr, nullptr, e); }},
    {"finermoe_generation_get_logits",
     [](finermoe_error** e) { return finermoe_generation_get_logits(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_generation_set_logits",
     [](finermoe_error** e) { return finermoe_generation_set_logits(nullptr, nullptr, 1, e); }},
    {"finermoe_generation_get_info",
     [](finermoe_error** e) { return finermoe_generation_get_info(nullptr, nullptr, e); }},
    {"finermoe_sampler_create", [](finermoe_error** e) { return finermoe_sampler_create(nullptr, nullptr, e); }},
    {"finermoe_sampler_accept", [](finermoe_error** e) { return finermoe_sampler_accept(nullptr, 0, e); }},
    {"finermoe_sampler_accept_prompt",
     [](finermoe_error** e) { return finermoe_sampler_accept_prompt(nullptr, nullptr, 1, e); }},
    {"finermoe_sampler_choose",
     [](finermoe_error** e) { return finermoe_sampler_choose(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_config_get_json",
     [](finermoe_error** e) { return finermoe_config_get_json(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_generation_options_copy",
     [](finermoe_error** e) { return finermoe_generation_options_copy(nullptr, nullptr, e); }},
    {"finermoe_session_options_set_hidden",
     [](finermoe_error** e) { return finermoe_session_options_set_hidden(nullptr, 0, e); }},
    {"finermoe_session_score",
     [](finermoe_error**
            e) { return finermoe_session_score(nullptr, nullptr, 1, nullptr, nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_session_hidden",
     [](finermoe_error** e) { return finermoe_session_hidden(nullptr, 0, nullptr, 0, nullptr, e); }},
    {"finermoe_session_keep_prefix",
     [](finermoe_error** e) { return finermoe_session_keep_prefix(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_session_remove", [](finermoe_error** e) { return finermoe_session_remove(nullptr, 0, 0, e); }},
    {"finermoe_session_set_context_length",
     [](finermoe_error** e) { return finermoe_session_set_context_length(nullptr, 8, e); }},
    {"finermoe_session_set_progress",
     [](finermoe_error** e) { return finermoe_session_set_progress(nullptr, nullptr, nullptr, e); }},
    {"finermoe_session_save_memory",
     [](finermoe_error** e) { return finermoe_session_save_memory(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_session_restore_memory",
     [](finermoe_error** e) { return finermoe_session_restore_memory(nullptr, nullptr, 0, e); }},
    {"finermoe_trace_positions",
     [](finermoe_error** e) { return finermoe_trace_positions(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_generation_append",
     [](finermoe_error** e) { return finermoe_generation_append(nullptr, nullptr, 0, e); }},
    {"finermoe_generation_finish", [](finermoe_error** e) { return finermoe_generation_finish(nullptr, nullptr, e); }},
    {"finermoe_generation_set_draft",
     [](finermoe_error** e) { return finermoe_generation_set_draft(nullptr, nullptr, 1, e); }},
    {"finermoe_generation_set_tag", [](finermoe_error** e) { return finermoe_generation_set_tag(nullptr, 1, e); }},
    {"finermoe_generation_get_error", [](finermoe_error** e) { return finermoe_generation_get_error(nullptr, e); }},
    {"finermoe_generation_save_memory",
     [](finermoe_error** e) { return finermoe_generation_save_memory(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_generation_restore_memory",
     [](finermoe_error** e) { return finermoe_generation_restore_memory(nullptr, nullptr, 0, nullptr, e); }},
    {"finermoe_batch_next",
     [](finermoe_error** e) { return finermoe_batch_next(nullptr, nullptr, nullptr, nullptr, e); }},
    {"finermoe_chat_get", [](finermoe_error** e) { return finermoe_chat_get(nullptr, 0, nullptr, e); }},
    {"finermoe_chat_set", [](finermoe_error** e) { return finermoe_chat_set(nullptr, 0, nullptr, 0, e); }},
    {"finermoe_chat_remove", [](finermoe_error** e) { return finermoe_chat_remove(nullptr, 0, 0, e); }},
    {"finermoe_chat_truncate", [](finermoe_error** e) { return finermoe_chat_truncate(nullptr, 0, e); }},
    {"finermoe_batch_create", [](finermoe_error** e) { return finermoe_batch_create(nullptr, nullptr, e); }},
    {"finermoe_batch_add", [](finermoe_error** e) { return finermoe_batch_add(nullptr, nullptr, e); }},
    {"finermoe_batch_remove", [](finermoe_error** e) { return finermoe_batch_remove(nullptr, nullptr, e); }},
    {"finermoe_batch_step", [](finermoe_error** e) { return finermoe_batch_step(nullptr, nullptr, nullptr, e); }},
    {"finermoe_writer_options_create", [](finermoe_error** e) { return finermoe_writer_options_create(nullptr, e); }},
    {"finermoe_writer_options_set_seed",
     [](finermoe_error** e) { return finermoe_writer_options_set_seed(nullptr, 1, e); }},
    {"finermoe_writer_options_set_shard_size",
     [](finermoe_error** e) { return finermoe_writer_options_set_shard_size(nullptr, 1, e); }},
    {"finermoe_writer_options_set_overwrite",
     [](finermoe_error** e) { return finermoe_writer_options_set_overwrite(nullptr, 1, e); }},
    {"finermoe_writer_options_set_progress",
     [](finermoe_error** e) { return finermoe_writer_options_set_progress(nullptr, nullptr, nullptr, e); }},
    {"finermoe_writer_options_set_cancel",
     [](finermoe_error** e) { return finermoe_writer_options_set_cancel(nullptr, nullptr, e); }},
    {"finermoe_upcycle_options_create",
     [](finermoe_error** e) { return finermoe_upcycle_options_create(nullptr, nullptr, e); }},
    {"finermoe_upcycle_options_set_shape",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_shape(nullptr, 1, 1, 1, 1, 1, e); }},
    {"finermoe_upcycle_options_set_shared_expert",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_shared_expert(nullptr, 1, e); }},
    {"finermoe_upcycle_options_set_concat_proj",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_concat_proj(nullptr, 1, e); }},
    {"finermoe_upcycle_options_set_separate_router",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_separate_router(nullptr, 1, e); }},
    {"finermoe_upcycle_options_set_down_scale",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_down_scale(nullptr, 1, e); }},
    {"finermoe_upcycle_options_set_drop_ratio",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_drop_ratio(nullptr, 1, e); }},
    {"finermoe_upcycle_options_set_router_init",
     [](finermoe_error** e) { return finermoe_upcycle_options_set_router_init(nullptr, 1, e); }},
    {"finermoe_upcycle_run",
     [](finermoe_error** e) { return finermoe_upcycle_run(nullptr, nullptr, nullptr, nullptr, e); }},
    {"finermoe_synthesize_run",
     [](finermoe_error** e) { return finermoe_synthesize_run(nullptr, nullptr, 1, nullptr, e); }},
    {"finermoe_quantize_options_create",
     [](finermoe_error** e) { return finermoe_quantize_options_create(FINERMOE_DTYPE_Q8, nullptr, e); }},
    {"finermoe_quantize_options_add_override",
     [](finermoe_error** e) { return finermoe_quantize_options_add_override(nullptr, nullptr, FINERMOE_DTYPE_Q8, e); }},
    {"finermoe_quantize_run",
     [](finermoe_error** e) { return finermoe_quantize_run(nullptr, nullptr, nullptr, nullptr, e); }},
    {"finermoe_verification_run",
     [](finermoe_error** e) { return finermoe_verification_run(nullptr, nullptr, nullptr, nullptr, nullptr, e); }},
    {"finermoe_verification_get_file",
     [](finermoe_error** e) { return finermoe_verification_get_file(nullptr, 1, nullptr, e); }},
};

TEST(Misuse, NullIsAnErrorWithAMessage) {
  for (const Call& call : calls) {
    const Failure failure = failure_of(call.with_nulls);
    EXPECT_LT(failure.code, 0) << call.name;
    EXPECT_FALSE(failure.message.empty()) << call.name;
    EXPECT_EQ(call.with_nulls(nullptr), failure.code) << call.name;  // without an error object too
  }
}

TEST(Misuse, FreeAndCloseTakeNull) {
  finermoe_error_free(nullptr);
  finermoe_cancel_free(nullptr);
  finermoe_cancel_request(nullptr);
  finermoe_cancel_reset(nullptr);
  EXPECT_EQ(finermoe_cancel_requested(nullptr), 0);
  finermoe_runtime_options_free(nullptr);
  finermoe_runtime_free(nullptr);
  finermoe_config_free(nullptr);
  finermoe_model_options_free(nullptr);
  finermoe_model_close(nullptr);
  finermoe_model_free(nullptr);
  finermoe_tokenizer_free(nullptr);
  finermoe_decoder_free(nullptr);
  finermoe_chat_free(nullptr);
  finermoe_session_options_free(nullptr);
  finermoe_session_close(nullptr);
  finermoe_session_free(nullptr);
  finermoe_trace_free(nullptr);
  finermoe_generation_options_free(nullptr);
  finermoe_generation_close(nullptr);
  finermoe_generation_free(nullptr);
  finermoe_batch_close(nullptr);
  finermoe_batch_free(nullptr);
  finermoe_writer_options_free(nullptr);
  finermoe_upcycle_options_free(nullptr);
  finermoe_quantize_options_free(nullptr);
  finermoe_verification_free(nullptr);
  EXPECT_EQ(finermoe_verification_count(nullptr), 0u);
  EXPECT_EQ(finermoe_error_code(nullptr), FINERMOE_OK);
  EXPECT_STREQ(finermoe_error_message(nullptr), "");
  EXPECT_STREQ(finermoe_error_expected(nullptr), "");
  EXPECT_STREQ(finermoe_error_found(nullptr), "");
}

TEST(Misuse, StatusNames) {
  EXPECT_STREQ(finermoe_status_name(FINERMOE_OK), "FINERMOE_OK");
  EXPECT_STREQ(finermoe_status_name(FINERMOE_ERROR_BUSY), "FINERMOE_ERROR_BUSY");
  EXPECT_STREQ(finermoe_status_name(-12345), "FINERMOE_ERROR_UNKNOWN");
}

TEST(Misuse, StructsOfOtherVersions) {
  auto runtime = open_runtime(1);
  finermoe_runtime_info info;
  std::memset(&info, 0x5a, sizeof info);
  info.struct_size = offsetof(finermoe_runtime_info, memory_limit);  // an older, smaller one
  EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
  EXPECT_EQ(info.n_threads, 1u);
  EXPECT_EQ(info.memory_limit, 0x5a5a5a5a5a5a5a5aULL);  // not written
  struct {
    finermoe_runtime_info known;
    uint64_t later;
  } larger;
  std::memset(&larger, 0x5a, sizeof larger);
  larger.known.struct_size = sizeof larger;  // a newer, larger one
  EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &larger.known, e));
  EXPECT_EQ(larger.known.struct_size, sizeof larger);
  EXPECT_EQ(larger.later, 0x5a5a5a5a5a5a5a5aULL);
  info.struct_size = 4;
  EXPECT_EQ(finermoe_runtime_get_info(runtime.get(), &info, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
}

TEST(Misuse, NumbersOutOfRangeAreRefusedAtOnce) {
  auto model = open_model(golden::source_root() + "/tests/data/shapes/dense-tied");
  auto o = generation_options(model.get());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (double bad : {-1.0, nan, 1e9}) {
    EXPECT_EQ(finermoe_generation_options_set_temperature(o.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_generation_options_set_top_p(o.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_generation_options_set_min_p(o.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_generation_options_set_typical_p(o.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_generation_options_set_repetition_penalty(o.get(), bad, nullptr),
              FINERMOE_ERROR_INVALID_ARGUMENT);
  }
  EXPECT_EQ(finermoe_generation_options_set_ignore_eos(o.get(), 2, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  auto s = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  for (int32_t bad : {-1, FINERMOE_DTYPE_Q4 + 0, 5}) {
    EXPECT_EQ(finermoe_session_options_set_kv_dtype(s.get(), bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  }
  auto r = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_EQ(finermoe_runtime_options_set_isa(r.get(), 17, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  for (int32_t bad : {-2, FINERMOE_DTYPE_F32 + 0, FINERMOE_DTYPE_BF16 + 0, FINERMOE_DTYPE_Q4 + 1}) {
    finermoe_quantize_options* options = nullptr;
    EXPECT_EQ(finermoe_quantize_options_create(bad, &options, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(options, nullptr);
    ASSERT_EQ(finermoe_quantize_options_create(FINERMOE_DTYPE_Q4, &options, nullptr), FINERMOE_OK);
    EXPECT_EQ(finermoe_quantize_options_add_override(options, "*", bad, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_quantize_options_add_override(options, nullptr, -1, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    EXPECT_EQ(finermoe_quantize_options_add_override(options, "*", -1, nullptr), FINERMOE_OK);
    finermoe_quantize_options_free(options);
  }
  finermoe_trace* none = nullptr;
  EXPECT_EQ(finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, &none, nullptr), FINERMOE_ERROR_UNSUPPORTED);
}

// Counts as large as their type holds: nothing is read, allocated or added up for them.
TEST(Misuse, AbsurdCounts) {
  auto model = open_model(golden::source_root() + "/tests/data/shapes/finermoe-32-1-2-2");
  auto session = open_session(model.get(), 16);
  const int32_t ids[] = {1, 2, 3};
  const size_t row = 0;
  EXPECT_DONE(finermoe_session_append(session.get(), ids, 3, FINERMOE_LOGITS_NONE, nullptr, e));
  for (const size_t n : {size_t{14}, SIZE_MAX / 8, SIZE_MAX / 4 + 1, SIZE_MAX - 2, SIZE_MAX}) {
    for (const int32_t logits : {FINERMOE_LOGITS_NONE, FINERMOE_LOGITS_LAST, FINERMOE_LOGITS_ALL}) {
      EXPECT_EQ(finermoe_session_append(session.get(), ids, n, logits, nullptr, nullptr),
                FINERMOE_ERROR_CONTEXT_LENGTH);
    }
    EXPECT_EQ(finermoe_session_append_rows(session.get(), ids, n, &row, 1, nullptr, nullptr),
              FINERMOE_ERROR_CONTEXT_LENGTH);
    finermoe_generation* none = nullptr;
    EXPECT_EQ(finermoe_generation_create(session.get(), nullptr, ids, n, &none, nullptr),
              FINERMOE_ERROR_CONTEXT_LENGTH);
    EXPECT_EQ(finermoe_session_truncate(session.get(), n, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
    auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
    if (n > 512) {
      EXPECT_EQ(finermoe_session_options_set_chunk(options.get(), n, nullptr), n <= 65536 ? 0 : -1);
      EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), n, e));
      finermoe_session* nothing = nullptr;
      EXPECT_EQ(finermoe_session_create(model.get(), options.get(), &nothing, nullptr), FINERMOE_ERROR_CONTEXT_LENGTH);
    }
  }
  auto options = generation_options(model.get());
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), SIZE_MAX, e));
  EXPECT_DONE(finermoe_generation_options_set_min_tokens(options.get(), SIZE_MAX, e));
  EXPECT_DONE(finermoe_generation_options_set_top_k(options.get(), SIZE_MAX, e));
  EXPECT_DONE(finermoe_generation_options_set_top_logprobs(options.get(), SIZE_MAX, e));
  auto generation = generate(session.get(), options.get(), {4});
  const finermoe_event event = next_event(generation.get());
  EXPECT_EQ(event.n_top, 320u);
}

// The largest shape that a configuration may have: the bytes of its caches pass what 64 bits can count.
TEST(Misuse, APlanThatNothingCouldHold) {
  const std::string json = golden::read_file(golden::source_root() + "/tests/data/shapes/dense-tied/config.json");
  auto config = make<ConfigHandle>([&](auto** out, auto** e) {
    std::string huge = json;
    const auto replace = [&](const std::string& key, const std::string& value) {
      const size_t at = huge.find("\"" + key + "\":"), end = huge.find_first_of(",\n}", at);
      huge.replace(at, end - at, "\"" + key + "\": " + value);
    };
    replace("num_hidden_layers", "65536");
    replace("max_position_embeddings", "134217728");
    return finermoe_config_open_memory(huge.data(), huge.size(), out, e);
  });
  auto session = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(session.get(), 134217728, e));
  auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  EXPECT_DONE(finermoe_plan_options_set_session(options.get(), session.get(), e));
  EXPECT_EQ(finermoe_plan_options_set_sessions(options.get(), SIZE_MAX, nullptr), FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_DONE(finermoe_plan_options_set_sessions(options.get(), 1 << 20, e));
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  const Failure failure =
      failure_of([&](finermoe_error** e) { return finermoe_plan_compute(config.get(), options.get(), &plan, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_INVALID_ARGUMENT) << failure.message;
  EXPECT_EQ(plan.kv_cache, 0u);
}

TEST(Misuse, MessagesAreOneLineThatIsSafeToShow) {
  const char* const path = "/nonexistent/\x1b[31m\n\xff";
  finermoe_model* none = nullptr;
  const Failure failure = failure_of([&](auto** e) { return finermoe_model_open(path, nullptr, &none, e); });
  EXPECT_NE(failure.message.find("/nonexistent/\\x1b[31m\\n\\xff"), std::string::npos) << failure.message;
}

}  // namespace
