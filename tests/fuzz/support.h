// What every fuzz target uses: calls of the C API that are held to its rules, and inputs made of several texts.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "finermoe.h"
#include "models.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

// Something that must hold does not: a finding, as a crash is one.
#define HOLDS(...)                                                                          \
  do {                                                                                      \
    if (!(__VA_ARGS__)) {                                                                   \
      std::fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #__VA_ARGS__); \
      __builtin_trap();                                                                     \
    }                                                                                       \
  } while (0)

namespace fuzz {

// How often an input came to the end of its target and was not refused before: replay.cc asks, so that seeds which no
// longer load are noticed.
inline size_t n_completed = 0;
// Whether refusals are printed; replay.cc sets it.
inline bool verbose = false;

template <auto Free>
struct FreeWith {
  template <class T>
  void operator()(T* handle) const {
    Free(handle);
  }
};
template <class T, auto Free>
using Handle = std::unique_ptr<T, FreeWith<Free>>;
using Config = Handle<finermoe_config, finermoe_config_free>;
using PlanOptions = Handle<finermoe_plan_options, finermoe_plan_options_free>;
using Runtime = Handle<finermoe_runtime, finermoe_runtime_free>;
using RuntimeOptions = Handle<finermoe_runtime_options, finermoe_runtime_options_free>;
using Model = Handle<finermoe_model, finermoe_model_free>;
using ModelOptions = Handle<finermoe_model_options, finermoe_model_options_free>;
using Tokenizer = Handle<finermoe_tokenizer, finermoe_tokenizer_free>;
using Decoder = Handle<finermoe_decoder, finermoe_decoder_free>;
using Chat = Handle<finermoe_chat, finermoe_chat_free>;
using Session = Handle<finermoe_session, finermoe_session_free>;
using SessionOptions = Handle<finermoe_session_options, finermoe_session_options_free>;
using Trace = Handle<finermoe_trace, finermoe_trace_free>;
using Generation = Handle<finermoe_generation, finermoe_generation_free>;
using GenerationOptions = Handle<finermoe_generation_options, finermoe_generation_options_free>;
using Batch = Handle<finermoe_batch, finermoe_batch_free>;
using Cancel = Handle<finermoe_cancel, finermoe_cancel_free>;

// Makes a call, run([&](finermoe_error** e) { return finermoe_…(…, e); }), and holds it to what finermoe.h says of
// errors. A defect that the library itself notices (FINERMOE_ERROR_INTERNAL) is a finding.
template <class Call>
int32_t run(Call&& call) {
  finermoe_error* const untouched = reinterpret_cast<finermoe_error*>(&n_completed);
  finermoe_error* error = untouched;
  const int32_t code = call(&error);
  HOLDS(error != untouched);
  HOLDS(code == finermoe_error_code(error));
  if (code == FINERMOE_OK) {
    HOLDS(error == nullptr);
    return code;
  }
  const std::string_view message = finermoe_error_message(error);
  if (verbose) std::fprintf(stderr, "  %s: %s\n", finermoe_status_name(code), message.data());
  HOLDS(code < 0 && code != FINERMOE_ERROR_INTERNAL);
  HOLDS(std::strcmp(finermoe_status_name(code), "FINERMOE_ERROR_UNKNOWN") != 0);
  HOLDS(!message.empty() && message.find('\n') == message.npos);
  HOLDS(finermoe_error_expected(error) != nullptr && finermoe_error_found(error) != nullptr);
  finermoe_error_free(error);
  return code;
}
inline bool ok(int32_t code) { return code == FINERMOE_OK; }

// Creates an object, create<Session>([&](auto** out, auto** e) { return finermoe_…(…, out, e); }); null where the
// library refuses, which must leave the output untouched.
template <class T, class Create>
T create(Create&& call, int32_t* code = nullptr) {
  using Pointer = typename T::pointer;
  const Pointer untouched = reinterpret_cast<Pointer>(&n_completed);
  Pointer out = untouched;
  const int32_t result = run([&](finermoe_error** e) { return call(&out, e); });
  if (code != nullptr) *code = result;
  HOLDS(ok(result) ? out != untouched && out != nullptr : out == untouched);
  return T(ok(result) ? out : nullptr);
}
// One that must come.
template <class T, class Create>
T must(Create&& call) {
  T out = create<T>(call);
  HOLDS(out != nullptr);
  return out;
}

// Reads an array by the (buffer, capacity, needed) convention, first with too little room. Empty if the call fails.
template <class T, class Call>
std::vector<T> read(Call&& call, int32_t* code = nullptr) {
  size_t needed = 0;
  int32_t result = run([&](finermoe_error** e) { return call(static_cast<T*>(nullptr), size_t{0}, &needed, e); });
  if (result == FINERMOE_ERROR_BUFFER_TOO_SMALL) {
    HOLDS(needed > 0);
    std::vector<T> out(needed, T(77));
    size_t again = 0;
    HOLDS(run([&](finermoe_error** e) { return call(out.data(), needed - 1, &again, e); }) == result);
    HOLDS(again == needed);
    for (const T& value : out) HOLDS(value == T(77));
    HOLDS(ok(run([&](finermoe_error** e) { return call(out.data(), needed, &again, e); })) && again == needed);
    if (code != nullptr) *code = FINERMOE_OK;
    return out;
  }
  HOLDS(!ok(result) || needed == 0);
  if (code != nullptr) *code = result;
  return {};
}
template <class Call>
std::string read_text(Call&& call, int32_t* code = nullptr) {
  const std::vector<char> text = read<char>(call, code);
  return {text.begin(), text.end()};
}

// Fills a read-out struct.
template <class Struct, class Call>
Struct info(Call&& call) {
  Struct out{};
  out.struct_size = sizeof out;
  HOLDS(ok(run([&](finermoe_error** e) { return call(&out, e); })));
  return out;
}

// One thread and 64 MiB for all that targets do: what needs more is refused, which is tested thereby.
inline finermoe_runtime* runtime() {
  static const Runtime shared = [] {
    const auto options =
        must<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
    run([&](auto** e) { return finermoe_runtime_options_set_threads(options.get(), 1, e); });
    run([&](auto** e) { return finermoe_runtime_options_set_memory_limit(options.get(), 64 << 20, e); });
    return must<Runtime>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
  }();
  return shared.get();
}
// To be 0 when all is freed.
inline uint64_t memory_used() {
  return info<finermoe_runtime_info>([](auto* out, auto** e) { return finermoe_runtime_get_info(runtime(), out, e); })
      .memory_used;
}

inline Model open_model(const void* data, size_t size, int32_t* code = nullptr) {
  const auto options = must<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  run([&](auto** e) { return finermoe_model_options_set_runtime(options.get(), runtime(), e); });
  return create<Model>(
      [&](auto** out, auto** e) { return finermoe_model_open_memory(data, size, options.get(), out, e); }, code);
}

inline finermoe_config_info config_info(const finermoe_config* config) {
  return info<finermoe_config_info>([&](auto* out, auto** e) { return finermoe_config_get_info(config, out, e); });
}
inline finermoe_config_info config_info(const finermoe_model* model) {
  const auto config = must<Config>([&](auto** out, auto** e) { return finermoe_config_open_model(model, out, e); });
  return config_info(config.get());
}

inline Tokenizer open_tokenizer(std::string_view json, std::string_view config, int32_t* code = nullptr) {
  return create<Tokenizer>(
      [&](auto** out, auto** e) {
        return finermoe_tokenizer_open_memory(json.data(), json.size(), config.data(), config.size(), out, e);
      },
      code);
}

inline Session open_session(finermoe_model* model, size_t context_length, int32_t* code = nullptr) {
  const auto options =
      must<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  run([&](auto** e) { return finermoe_session_options_set_context_length(options.get(), context_length, e); });
  return create<Session>([&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); },
                         code);
}
inline finermoe_session_info session_info(const finermoe_session* session) {
  return info<finermoe_session_info>([&](auto* out, auto** e) { return finermoe_session_get_info(session, out, e); });
}
inline std::vector<int32_t> session_tokens(const finermoe_session* session, int32_t* code = nullptr) {
  return read<int32_t>([&](auto... rest) { return finermoe_session_tokens(session, rest...); }, code);
}
inline std::vector<float> session_logits(const finermoe_session* session, size_t row, int32_t* code = nullptr) {
  return read<float>([&](auto... rest) { return finermoe_session_logits(session, row, rest...); }, code);
}

// What an event may be.
inline void check_event(const finermoe_event& event, uint64_t vocab_size) {
  HOLDS(event.token >= -1 && (event.token < 0 || static_cast<uint64_t>(event.token) < vocab_size));
  HOLDS(event.finish_reason >= FINERMOE_FINISH_NONE && event.finish_reason <= FINERMOE_FINISH_ERROR);
  HOLDS(event.finish_reason != FINERMOE_FINISH_NONE || event.token >= 0);
  HOLDS(event.text != nullptr && event.text[event.text_length] == '\0');
  HOLDS(event.n_top <= vocab_size);
  for (size_t i = 0; i < event.n_top; i++) {
    HOLDS(event.top_ids[i] >= 0 && static_cast<uint64_t>(event.top_ids[i]) < vocab_size);
    HOLDS(i == 0 || !(event.top_logprobs[i] > event.top_logprobs[i - 1]));
  }
}
inline int32_t next(finermoe_generation* generation, uint64_t vocab_size, finermoe_event& event,
                    finermoe_cancel* cancel = nullptr) {
  event = {};
  event.struct_size = sizeof event;
  event.token = -77;
  const int32_t code = run([&](auto** e) { return finermoe_generation_next(generation, cancel, &event, e); });
  HOLDS(ok(code) || event.token == -77);
  if (ok(code)) check_event(event, vocab_size);
  return code;
}

template <size_t n>
std::string_view text_of(const unsigned char (&array)[n]) {
  return {reinterpret_cast<const char*>(array), n};
}

// A text as a JSON string. Each byte becomes one character, so that any text can stand in valid JSON.
inline std::string quoted(std::string_view text) {
  std::string out = "\"";
  for (unsigned char c : text) {
    char escaped[8];
    if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
      out += static_cast<char>(c);
    } else {
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(c));
      out += escaped;
    }
  }
  return out + '"';
}

// An input of several texts: each but the last ends at a NUL.
class Texts {
 public:
  Texts(const uint8_t* data, size_t size) : rest_(reinterpret_cast<const char*>(data), size) {}
  std::string_view next() {
    const std::string_view text = rest_.substr(0, rest_.find('\0'));
    rest_.remove_prefix(std::min(rest_.size(), text.size() + 1));
    return text;
  }
  std::string_view rest() const { return rest_; }
  bool empty() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

// Bytes that decide; 0 where there are no more.
class Choices {
 public:
  Choices(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t byte() {
    if (empty()) return 0;
    size_--;
    return *data_++;
  }
  size_t below(size_t n) { return byte() % n; }
  uint64_t number() {  // eight bytes
    uint64_t value = 0;
    for (int i = 0; i < 8; i++) value = value << 8 | byte();
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace fuzz
