#include "scenarios.h"

#include <unistd.h>

#include <array>
#include <cstring>
#include <string_view>
#include <vector>

Places places;

void give_up(const char* what, const char* detail) {
  for (const char* text : {what, ": ", detail, "\n"}) {
    if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) break;
  }
  _exit(1);
}

namespace {

// The place for a new object in a call; a handle has it after the call.
template <class Handle>
struct Out {
  explicit Out(Handle& to) : handle(to) {}
  ~Out() { handle.reset(made); }
  operator typename Handle::pointer *() { return &made; }
  Handle& handle;
  typename Handle::pointer made = nullptr;
};

// A call's status; its error object has to say the same.
template <class Function>
int32_t status_of(Function&& function) {
  finermoe_error* error = nullptr;
  const int32_t status = function(&error);
  if ((status != FINERMOE_OK) != (error != nullptr)) give_up("a status without an error object, or the reverse", "");
  if (finermoe_error_code(error) != status) give_up("another code in the error", finermoe_error_message(error));
  if (error != nullptr && finermoe_error_message(error)[0] == '\0') give_up("an error without a message", "");
  if (status == FINERMOE_ERROR_INTERNAL) give_up("an internal error", finermoe_error_message(error));
  finermoe_error_free(error);
  return status;
}
#define TRY(call) \
  if (const int32_t status = status_of([&](finermoe_error** error) { return call; }); status != 0) return status

int32_t open_model(ModelHandle& model, const std::string& path = places.model) {
  RuntimeOptions options;
  RuntimeHandle runtime;
  ModelOptions model_options;
  TRY(finermoe_runtime_options_create(Out(options), error));
  TRY(finermoe_runtime_options_set_threads(options.get(), 3, error));
  TRY(finermoe_runtime_create(options.get(), Out(runtime), error));
  TRY(finermoe_model_options_create(Out(model_options), error));
  TRY(finermoe_model_options_set_runtime(model_options.get(), runtime.get(), error));
  TRY(finermoe_model_open(path.c_str(), model_options.get(), Out(model), error));
  return 0;
}

int32_t open_session(ModelHandle& model, SessionHandle& session) {
  SessionOptions options;
  if (!model)
    if (const int32_t status = open_model(model)) return status;
  TRY(finermoe_session_options_create(Out(options), error));
  TRY(finermoe_session_options_set_context_length(options.get(), 64, error));
  TRY(finermoe_session_options_set_chunk(options.get(), 4, error));
  TRY(finermoe_session_create(model.get(), options.get(), Out(session), error));
  return 0;
}

int32_t next_tokens(finermoe_generation* generation, int n) {
  for (int i = 0; i < n; i++) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    TRY(finermoe_generation_next(generation, nullptr, &event, error));
  }
  return 0;
}

}  // namespace

int32_t plan() {
  ConfigHandle config;
  PlanOptions options;
  finermoe_config_info info{};
  info.struct_size = sizeof info;
  finermoe_plan plan{};
  plan.struct_size = sizeof plan;
  TRY(finermoe_config_open(places.model.c_str(), Out(config), error));
  TRY(finermoe_config_get_info(config.get(), &info, error));
  TRY(finermoe_plan_options_create(Out(options), error));
  TRY(finermoe_plan_options_set_sessions(options.get(), 2, error));
  TRY(finermoe_plan_compute(config.get(), options.get(), &plan, error));
  return 0;
}

int32_t open_a_copy() {
  ModelOptions options;
  ModelHandle model;
  TRY(finermoe_model_options_create(Out(options), error));
  TRY(finermoe_model_options_set_copy(options.get(), 1, error));
  TRY(finermoe_model_options_set_verify(options.get(), 1, error));
  TRY(finermoe_model_open(places.dense.c_str(), options.get(), Out(model), error));
  return 0;
}

int32_t tokenize() {
  static std::array<int32_t, 256> ids;
  static std::array<char, 1024> text;
  TokenizerHandle tokenizer;
  DecoderHandle decoder;
  size_t n = 0, n_bytes = 0;
  constexpr std::string_view sample = "abcd ab\xcc\x81 \xe2\x82\xac, cd! 12  \n<|im_end|> abcdabcdabcd abc";
  TRY(finermoe_tokenizer_open(places.model.c_str(), Out(tokenizer), error));
  TRY(finermoe_tokenizer_encode(tokenizer.get(), sample.data(), sample.size(), FINERMOE_TEXT_PARSE_SPECIAL, ids.data(),
                                nullptr, ids.size(), &n, error));
  TRY(finermoe_tokenizer_decode(tokenizer.get(), ids.data(), n, 0, text.data(), text.size(), &n_bytes, error));
  TRY(finermoe_decoder_create(tokenizer.get(), 0, Out(decoder), error));
  for (size_t i = 0; i < n; i++) {
    TRY(finermoe_decoder_push(decoder.get(), ids[i], text.data(), text.size(), &n_bytes, error));
  }
  return 0;
}

int32_t generate() {
  ModelHandle model;
  SessionHandle session;
  TraceHandle trace;
  GenerationOptions options;
  GenerationHandle generation;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES | FINERMOE_TRACE_LOGITS | FINERMOE_TRACE_USAGE,
                            Out(trace), error));
  TRY(finermoe_session_set_trace(session.get(), trace.get(), error));
  TRY(finermoe_generation_options_create(model.get(), Out(options), error));
  TRY(finermoe_generation_options_set_temperature(options.get(), 1.5, error));
  TRY(finermoe_generation_options_set_top_p(options.get(), 0.9, error));
  TRY(finermoe_generation_options_set_repetition_penalty(options.get(), 1.1, error));
  TRY(finermoe_generation_options_add_logit_bias(options.get(), 7, -1, error));
  TRY(finermoe_generation_options_add_stop_string(options.get(), "never there", 11, error));
  TRY(finermoe_generation_options_set_top_logprobs(options.get(), 3, error));
  TRY(finermoe_generation_options_set_ignore_eos(options.get(), 1, error));
  TRY(finermoe_generation_create_text(session.get(), options.get(), "abcd ab cd", 10, 0, Out(generation), error));
  return next_tokens(generation.get(), 6);
}

int32_t chat() {
  ModelHandle model;
  SessionHandle session;
  ChatHandle conversation;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_chat_create(Out(conversation), error));
  for (const char* role : {"system", "user"}) {
    GenerationHandle generation;
    TRY(finermoe_chat_add(conversation.get(), role, "abcd", 4, error));
    TRY(finermoe_generation_create_chat(session.get(), nullptr, conversation.get(), 0, Out(generation), error));
    if (const int32_t status = next_tokens(generation.get(), 2)) return status;
  }
  return 0;
}

int32_t draft() {
  constexpr int32_t prompt[] = {1, 2, 3};
  ModelHandle model, by;
  SessionHandle session;
  GenerationOptions options;
  GenerationHandle generation;
  if (const int32_t status = open_session(model, session)) return status;
  if (const int32_t status = open_model(by, places.dense)) return status;
  TRY(finermoe_generation_options_create(nullptr, Out(options), error));
  TRY(finermoe_generation_options_set_draft(options.get(), by.get(), 3, error));
  TRY(finermoe_generation_create(session.get(), options.get(), prompt, 3, Out(generation), error));
  if (const int32_t status = next_tokens(generation.get(), 6)) return status;
  TRY(finermoe_generation_set_draft(generation.get(), by.get(), 20, error));
  return next_tokens(generation.get(), 2);
}

int32_t batch() {
  constexpr int32_t prompt[] = {1, 2, 3, 4, 5, 6};
  ModelHandle model;
  std::array<SessionHandle, 3> sessions;
  std::array<GenerationHandle, 3> generations;
  BatchHandle together;
  for (size_t i = 0; i < sessions.size(); i++) {
    if (const int32_t status = open_session(model, sessions[i])) return status;
    TRY(finermoe_generation_create(sessions[i].get(), nullptr, prompt + i, 6 - i, Out(generations[i]), error));
  }
  TRY(finermoe_batch_create(model.get(), Out(together), error));
  for (const auto& one : generations) TRY(finermoe_batch_add(together.get(), one.get(), error));
  for (int step = 0; step < 4; step++) {
    size_t n_active = 0;
    TRY(finermoe_batch_step(together.get(), nullptr, &n_active, error));
    for (const auto& one : generations) {
      finermoe_generation_info info{};
      info.struct_size = sizeof info;
      TRY(finermoe_generation_get_info(one.get(), &info, error));
      if (info.prepared)
        if (const int32_t status = next_tokens(one.get(), 1)) return status;
    }
  }
  return 0;
}

int32_t save_and_restore() {
  constexpr int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  constexpr size_t rows[] = {2, 7, 8};
  ModelHandle model;
  SessionHandle session, other, fork;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_session_append_rows(session.get(), ids, 9, rows, 3, nullptr, error));
  TRY(finermoe_session_fork(session.get(), Out(fork), error));
  TRY(finermoe_session_save(session.get(), places.saved.c_str(), error));
  if (const int32_t status = open_session(model, other)) return status;
  TRY(finermoe_session_restore(other.get(), places.saved.c_str(), error));
  TRY(finermoe_session_append(other.get(), ids, 3, 1, nullptr, error));
  return 0;
}

int32_t rearrange() {
  constexpr int32_t ids[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  static std::array<float, 64> numbers;
  static std::array<int32_t, 9> likeliest;
  static std::vector<char> data(1 << 20);
  ModelHandle model;
  SessionOptions options;
  SessionHandle session, other;
  TraceHandle trace;
  size_t n = 0;
  if (const int32_t status = open_session(model, other)) return status;
  TRY(finermoe_session_options_create(Out(options), error));
  TRY(finermoe_session_options_set_context_length(options.get(), 40, error));
  TRY(finermoe_session_options_set_hidden(options.get(), FINERMOE_HIDDEN_KEEP, error));
  TRY(finermoe_session_create(model.get(), options.get(), Out(session), error));
  TRY(finermoe_session_append(session.get(), ids, 9, FINERMOE_LOGITS_LAST, nullptr, error));
  TRY(finermoe_session_hidden(session.get(), 0, numbers.data(), numbers.size(), &n, error));
  TRY(finermoe_session_score(session.get(), ids, 9, nullptr, numbers.data(), likeliest.data(), 9, &n, error));
  TRY(finermoe_session_remove(session.get(), 2, 7, error));
  TRY(finermoe_session_set_context_length(session.get(), 60, error));
  TRY(finermoe_session_keep_prefix(session.get(), ids, 2, &n, error));
  TRY(finermoe_session_save_memory(session.get(), data.data(), data.size(), &n, error));
  TRY(finermoe_session_restore_memory(other.get(), data.data(), n, error));
  TRY(finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, Out(trace), error));
  TRY(finermoe_session_set_trace(other.get(), trace.get(), error));
  TRY(finermoe_session_append(other.get(), ids, 3, 0, nullptr, error));
  return 0;
}

int32_t steer() {
  constexpr int32_t ids[] = {1, 2, 3};
  static std::vector<char> data(1 << 16);
  ModelHandle model;
  SessionHandle session;
  GenerationOptions options, copy;
  GenerationHandle generation, again;
  BatchHandle together;
  size_t n = 0;
  if (const int32_t status = open_session(model, session)) return status;
  TRY(finermoe_generation_options_create(model.get(), Out(options), error));
  TRY(finermoe_generation_options_set_repetition_penalty(options.get(), 1.1, error));
  TRY(finermoe_generation_options_add_logit_bias(options.get(), 7, -1, error));
  TRY(finermoe_generation_options_add_stop_string(options.get(), "never there", 11, error));
  TRY(finermoe_generation_options_set_ignore_eos(options.get(), 1, error));
  TRY(finermoe_generation_options_copy(options.get(), Out(copy), error));
  const int32_t created = status_of([&](finermoe_error** error) {
    return finermoe_generation_create(session.get(), copy.get(), ids, 3, Out(generation), error);
  });
  finermoe_session_info info{};
  info.struct_size = sizeof info;
  TRY(finermoe_session_get_info(session.get(), &info, error));
  if (info.length != (created == FINERMOE_OK ? 3u : 0u)) give_up("a refused request", "left its prompt");
  if (created != FINERMOE_OK) return created;
  if (const int32_t status = next_tokens(generation.get(), 2)) return status;
  TRY(finermoe_generation_append(generation.get(), ids, 3, error));
  TRY(finermoe_generation_save_memory(generation.get(), data.data(), data.size(), &n, error));
  TRY(finermoe_generation_restore_memory(session.get(), data.data(), n, Out(again), error));
  TRY(finermoe_batch_create(model.get(), Out(together), error));
  TRY(finermoe_batch_add(together.get(), again.get(), error));
  for (int i = 0; i < 3; i++) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    uint64_t tag = 0;
    TRY(finermoe_batch_next(together.get(), nullptr, &tag, &event, error));
  }
  finermoe_event event{};
  event.struct_size = sizeof event;
  TRY(finermoe_generation_finish(again.get(), &event, error));
  return 0;
}

int32_t similarity_of_experts() {
  static std::array<double, 64 * 64> values;
  ModelHandle model;
  if (const int32_t status = open_model(model)) return status;
  TRY(finermoe_model_expert_similarity(model.get(), 1, nullptr, values.data(), error));
  return 0;
}

int32_t writer_options(WriterOptions& options) {
  TRY(finermoe_writer_options_create(Out(options), error));
  TRY(finermoe_writer_options_set_shard_size(options.get(), 20000, error));
  TRY(finermoe_writer_options_set_overwrite(options.get(), 1, error));
  return 0;
}

int32_t upcycle() {
  UpcycleOptions options;
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_upcycle_options_create("finermoe", Out(options), error));
  TRY(finermoe_upcycle_options_set_shape(options.get(), 2, 1, 2, 1, 1, error));
  TRY(finermoe_upcycle_options_set_drop_ratio(options.get(), 0.5, error));
  TRY(finermoe_upcycle_run(places.dense.c_str(), places.out.c_str(), options.get(), writing.get(), error));
  return 0;
}

int32_t quantize() {
  QuantizeOptions options;
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_quantize_options_create(FINERMOE_DTYPE_Q4, Out(options), error));
  TRY(finermoe_quantize_options_add_override(options.get(), "*.q_proj.*", FINERMOE_DTYPE_Q8, error));
  TRY(finermoe_quantize_run(places.dense.c_str(), places.out.c_str(), options.get(), writing.get(), error));
  return 0;
}

int32_t synthesize_one_file() {
  WriterOptions writing;
  if (const int32_t status = writer_options(writing)) return status;
  TRY(finermoe_synthesize_run(places.model.c_str(), places.out_file.c_str(), FINERMOE_DTYPE_F16, writing.get(), error));
  return 0;
}

int32_t verify() {
  Verification found;
  TRY(finermoe_verification_run(places.dense.c_str(), nullptr, nullptr, nullptr, Out(found), error));
  return 0;
}
