// The definitions of the opaque types of finermoe.h, and the one way into and out of the library.
#pragma once

#include <algorithm>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/printable.h"
#include "base/progress.h"
#include "base/status.h"
#include "base/thread_pool.h"
#include "convert/convert.h"
#include "finermoe.h"
#include "placement/plan.h"
#include "runtime/batch.h"
#include "runtime/generation.h"
#include "runtime/session.h"

// A handle holds a shared_ptr to its object. Every function first takes its own copy, so that `_free` during another
// thread's call is safe.
struct finermoe_error {
  finermoe::Status status;
};
struct finermoe_cancel {
  std::shared_ptr<finermoe::CancelFlag> flag;
};
struct finermoe_runtime_options {
  finermoe::RuntimeOptions options;
};
struct finermoe_runtime {
  std::shared_ptr<finermoe::Runtime> runtime;
};
struct finermoe_config {
  finermoe::Config config;
  std::string json;
};
struct finermoe_model_options {
  std::shared_ptr<finermoe::Runtime> runtime;
  bool copy = false, verify = false;
  finermoe::LoadOptions load;
  finermoe::Progress progress;
};
struct finermoe_model {
  std::shared_ptr<finermoe::LoadedModel> model;
};
struct finermoe_tokenizer {
  std::shared_ptr<const finermoe::Tokenizer> tokenizer;
};
struct finermoe_decoder {
  std::shared_ptr<const finermoe::Tokenizer> tokenizer;
  bool show_special = false;
  finermoe::Utf8Stream stream;
};
struct finermoe_chat {
  std::vector<finermoe::ChatMessage> messages;
};
struct finermoe_session_options {
  finermoe::SessionOptions options;
};
struct finermoe_session {
  std::shared_ptr<finermoe::Session> session;
};
struct finermoe_plan_options {
  finermoe::SessionOptions session;
  uint64_t n_sessions = 1;
  uint32_t n_threads = 0;                          // 0: as many as this process may use
  std::shared_ptr<const finermoe::Device> device;  // null: the CPU
  uint64_t device_memory = 0;                      // bytes; 0: all the device has
  uint64_t expert_cache = 0;                       // bytes of these; 0: no expert is fetched
};
struct finermoe_trace {
  std::shared_ptr<finermoe::Trace> trace;
};
struct finermoe_generation_options {
  finermoe::GenerationOptions options;
  uint64_t vocab_size = 0;  // that ids are checked against
};
struct finermoe_generation {
  std::shared_ptr<finermoe::Generation> generation;
};
struct finermoe_sampler {
  finermoe::GenerationOptions options;
  finermoe::Sampler sampler;
  size_t n_generated = 0;
};
struct finermoe_batch {
  std::shared_ptr<finermoe::Batch> batch;
};
struct finermoe_writer_options {
  finermoe::WriterOptions options;
};
struct finermoe_upcycle_options {
  finermoe::UpcycleOptions options;
};
struct finermoe_quantize_options {
  finermoe::Quantization types;
};
struct finermoe_verification {
  std::vector<finermoe::VerifiedFile> files;
};

namespace finermoe::api {

// Reports the status to the caller: its code, and an error object if the caller wants one. If there is no memory for
// that object, the code is OUT_OF_MEMORY and the object a static one.
int32_t report(finermoe_error** error, Status status) noexcept;
// The same for the exception being handled. A handler must not rely on memory: it has just run out.
int32_t report_exception(finermoe_error** error) noexcept;

// The status with quoted text made safe to display.
inline Status shown(Status status) {
  if (status.ok()) return status;
  return Status(status.code(), printable(status.message()), printable(status.expected()), printable(status.found()));
}

// Runs a function's body under the default floating-point environment, and lets no exception escape.
template <class Body>
int32_t guarded(finermoe_error** error, Body&& body) noexcept {
  const DefaultFloatEnvironment environment;
  try {
    return report(error, shown(body()));
  } catch (...) {
    return report_exception(error);
  }
}

inline Status require(const void* pointer, const char* name) {
  if (pointer != nullptr) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text(name, " must not be NULL"), "a pointer", "NULL");
}
// Requires a pointer that may be NULL only if its length is 0.
inline Status require_array(const void* pointer, size_t length, const char* name) {
  return length == 0 ? Status() : require(pointer, name);
}
Status require_range(double value, bool is_in_range, const char* name, const char* range);
Status require_flag(int32_t value, const char* name);  // 0 or 1
Status require_index(size_t index, size_t count, const char* name);

// The string and array convention: returns everything, or only its size.
inline Status require_room(size_t count, const void* out, size_t capacity, size_t* needed) {
  if (needed != nullptr) *needed = count;
  if (count > capacity) {
    return Status(FINERMOE_ERROR_BUFFER_TOO_SMALL,
                  format_text("the buffer has room for ", capacity, " elements and ", count, " are needed"),
                  format_text("a capacity of at least ", count), format_text(capacity));
  }
  return require_array(out, count, "the buffer");
}
template <class T>
Status put(std::span<const T> values, T* out, size_t capacity, size_t* needed) {
  FM_TRY(require_room(values.size(), out, capacity, needed));
  std::copy(values.begin(), values.end(), out);
  return {};
}
inline Status put_text(std::string_view text, char* out, size_t capacity, size_t* needed) {
  return put(std::span<const char>(text.data(), text.size()), out, capacity, needed);
}

// The struct convention: fills as much as the caller's version of the struct has.
template <class Struct>
Status require_struct(const Struct* out) {
  FM_TRY(require(out, "the struct"));
  if (out->struct_size >= 8) return {};
  return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                format_text("struct_size is ", out->struct_size, ": set it to sizeof the struct"),
                format_text(sizeof(Struct)), format_text(out->struct_size));
}
template <class Struct>
Status put_struct(Struct values, Struct* out) {
  FM_TRY(require_struct(out));
  values.struct_size = out->struct_size;
  std::memcpy(out, &values, std::min<size_t>(out->struct_size, sizeof values));
  return {};
}

// Copies as much of a text as fits in a struct's array, followed by a NUL.
template <size_t N>
void put_chars(std::string_view text, char (&out)[N]) {
  std::memset(out, 0, N);
  std::copy_n(text.begin(), std::min(text.size(), N - 1), out);
}

inline std::span<const std::byte> bytes_of(const void* data, size_t size) {
  return size == 0 ? std::span<const std::byte>() : std::span(static_cast<const std::byte*>(data), size);
}
inline std::string_view text_of(const char* text, size_t length) {
  return length == 0 ? std::string_view() : std::string_view(text, length);
}

// A host's text as valid UTF-8, so that what is rendered or compared is the same as after encoding and decoding.
std::string whole_utf8(std::string_view text);

// The flags of functions that turn a text into ids.
constexpr uint32_t encode_flags = FINERMOE_TEXT_PARSE_SPECIAL | FINERMOE_TEXT_NO_SPECIAL_TOKENS;
inline EncodeOptions encode_options(uint32_t flags) {
  return {.parse_special = (flags & FINERMOE_TEXT_PARSE_SPECIAL) != 0,
          .add_special = (flags & FINERMOE_TEXT_NO_SPECIAL_TOKENS) == 0};
}

// The flags of functions that render a chat.
Status require_flags(uint32_t flags, uint32_t allowed);
constexpr uint32_t chat_flags = FINERMOE_TEXT_NO_GENERATION_PROMPT | FINERMOE_TEXT_CONTINUE_LAST;
inline ChatEnd chat_end(uint32_t flags) {
  if ((flags & FINERMOE_TEXT_CONTINUE_LAST) != 0) return ChatEnd::continue_last;
  return (flags & FINERMOE_TEXT_NO_GENERATION_PROMPT) != 0 ? ChatEnd::closed : ChatEnd::generation_prompt;
}

inline std::shared_ptr<const CancelFlag> flag_of(const finermoe_cancel* cancel) {
  return cancel ? cancel->flag : nullptr;
}

// On the devices that this library has (runtime.cc).
Result<std::shared_ptr<Runtime>> make_runtime(RuntimeOptions options);

// Makes the handle of an object and hands it out.
template <class Handle, class... Members>
Status give(Handle** out, Members&&... members) {
  FM_TRY(require(out, "the place for the new object"));
  *out = new Handle{std::forward<Members>(members)...};
  return {};
}

}  // namespace finermoe::api
