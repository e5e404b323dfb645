// What every command of `finermoe` shares: errors, owners of the C API's objects, sizes, interrupts, opening a model.
#pragma once

#include <finermoe.h>

#include <cstdint>
#include <exception>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tool {

class Progress;

// Objects keep the order in which their fields were written.
using Json = nlohmann::ordered_json;

// Exit codes; docs/cli.md. A signal ends with 128 plus its number.
enum Exit { kOk = 0, kError = 1, kUsage = 2, kFound = 3 };

// Ends the command: main prints the message and returns the code.
class Failure : public std::exception {
 public:
  Failure(int exit_code, std::string message) : exit_code_(exit_code), message_(std::move(message)) {}
  const char* what() const noexcept override { return message_.c_str(); }
  int exit_code() const { return exit_code_; }

 private:
  int exit_code_;
  std::string message_;
};

// An error of the library, with its code.
class LibraryError : public Failure {
 public:
  LibraryError(int32_t status, int exit_code, std::string message)
      : Failure(exit_code, std::move(message)), status_(status) {}
  int32_t status() const { return status_; }

 private:
  int32_t status_;
};

[[noreturn]] void raise(int32_t status, finermoe_error* error);  // takes the error over

// Calls a function of the C API without its last parameter, the error, which is thrown.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
  finermoe_error* error = nullptr;
  const int32_t status = function(arguments..., &error);
  if (status != FINERMOE_OK) raise(status, error);
}

// The whole array that a function of the form (arguments…, buffer, capacity, needed, error) gives.
template <class T, class Function, class... Arguments>
std::vector<T> fetch(Function function, Arguments... arguments) {
  std::vector<T> values;
  size_t needed = 0;
  finermoe_error* error = nullptr;
  const int32_t status = function(arguments..., nullptr, 0, &needed, &error);
  if (status != FINERMOE_OK && status != FINERMOE_ERROR_BUFFER_TOO_SMALL) raise(status, error);
  finermoe_error_free(error);
  values.resize(needed);
  if (needed > 0) call(function, arguments..., values.data(), values.size(), &needed);
  return values;
}

// A read-out struct filled by the function that takes (object, struct*, error).
template <class Info, class Function, class Object>
Info read_info(Function function, const Object* object) {
  Info info{};
  info.struct_size = sizeof(Info);
  call(function, object, &info);
  return info;
}

// Owns one object of the C API.
template <class T, void (*Free)(T*)>
class Handle {
 public:
  Handle() = default;
  Handle(Handle&& other) noexcept : object_(std::exchange(other.object_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    std::swap(object_, other.object_);
    return *this;
  }
  ~Handle() { Free(object_); }
  T* get() const { return object_; }
  explicit operator bool() const { return object_ != nullptr; }
  // Where a `_create` or `_open` call puts the object.
  T** out() {
    Free(std::exchange(object_, nullptr));
    return &object_;
  }

 private:
  T* object_ = nullptr;
};

using Cancel = Handle<finermoe_cancel, finermoe_cancel_free>;
using RuntimeOptions = Handle<finermoe_runtime_options, finermoe_runtime_options_free>;
using Runtime = Handle<finermoe_runtime, finermoe_runtime_free>;
using Config = Handle<finermoe_config, finermoe_config_free>;
using ModelOptions = Handle<finermoe_model_options, finermoe_model_options_free>;
using PlanOptions = Handle<finermoe_plan_options, finermoe_plan_options_free>;
using Model = Handle<finermoe_model, finermoe_model_free>;
using Tokenizer = Handle<finermoe_tokenizer, finermoe_tokenizer_free>;
using Chat = Handle<finermoe_chat, finermoe_chat_free>;
using SessionOptions = Handle<finermoe_session_options, finermoe_session_options_free>;
using Session = Handle<finermoe_session, finermoe_session_free>;
using Trace = Handle<finermoe_trace, finermoe_trace_free>;
using GenerationOptions = Handle<finermoe_generation_options, finermoe_generation_options_free>;
using Generation = Handle<finermoe_generation, finermoe_generation_free>;
using Batch = Handle<finermoe_batch, finermoe_batch_free>;
using WriterOptions = Handle<finermoe_writer_options, finermoe_writer_options_free>;
using UpcycleOptions = Handle<finermoe_upcycle_options, finermoe_upcycle_options_free>;
using QuantizeOptions = Handle<finermoe_quantize_options, finermoe_quantize_options_free>;
using Verification = Handle<finermoe_verification, finermoe_verification_free>;

// While it lives, SIGINT, SIGTERM and SIGHUP raise its cancel object instead of ending the program. One at a time. A
// second signal ends the program at once, unless the interrupt is told to be patient.
class Interrupt {
 public:
  enum Manner { kOnce, kPatient };
  explicit Interrupt(Manner manner = kOnce);
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;
  finermoe_cancel* cancel() const { return cancel_.get(); }
  bool requested() const { return finermoe_cancel_requested(cancel_.get()) != 0; }
  void reset() { finermoe_cancel_reset(cancel_.get()); }
  int signal_number() const;  // of the last one; 0: none yet
  // Between these two, signals end the program as usual.
  void disarm();
  void arm();

 private:
  Manner manner_;
  Cancel cancel_;
};

void throw_if_interrupted();  // Failure, where an Interrupt lives that has seen a signal

// Flags of every command that computes.
struct ComputeFlags {
  uint32_t threads = 0;
  std::string isa = "auto";
  uint64_t memory_limit = 0;  // bytes; 0: none
  uint64_t context = 0;       // tokens; 0: as the command sees fit
  std::string kv_dtype = "f32";
  std::string precision = "exact";
  bool profile = false;  // measure the operations
  bool copy = false;     // weights in memory of their own
  std::string lock = "none", prefetch = "auto";
  uint64_t expert_budget = 0;  // bytes; 0: none
};

Model open_model(const std::string& path, const ComputeFlags& flags, finermoe_cancel* cancel);
// context: tokens; 0: the library's default. --context goes before it.
// progress: shows long prefills; must outlive the session; may be null.
Session open_session(const Model& model, const ComputeFlags& flags, uint64_t context, Progress* progress = nullptr);
SessionOptions session_options(const ComputeFlags& flags, uint64_t context);
// The model's own tokenizer; empty where it has none that can be used, and then `fault` says what is wrong with one
// that it has.
Tokenizer find_tokenizer(const Model& model, std::string* fault = nullptr);
// Whether the model's lm_head.weight is used although its config.json, at `path`, ties the head to the embeddings.
bool unties_head(const std::string& path, const Model& model);
constexpr const char* kUntiedHead =
    "lm_head.weight differs from the embeddings that config.json ties it to, and is used";
// The smaller of `wanted` and what the model's positions allow.
uint64_t clamp_context(const Model& model, uint64_t wanted);
finermoe_config_info model_info(const Model& model);

int32_t dtype_code(const std::string& name);  // "f32", "f16", "bf16", "q8", "q4" to FINERMOE_DTYPE_…
const char* dtype_name(int32_t dtype);

const char* isa_name(int32_t isa);  // the value of --isa that stands for FINERMOE_ISA_…

bool parse_size(std::string_view text, uint64_t& bytes);  // "24GB", "512MiB", "1000"
std::string format_bytes(uint64_t bytes);                 // "1.23 GB"
std::string format_count(uint64_t count);                 // "1.23 B", "7.7 M"
std::string format_fixed(double value, int decimals);

double seconds();  // of a steady clock

// A float as the shortest decimal number that gives the same float.
Json json_float(float value);
std::string dump(const Json& json, int indent = -1);
// Results: to standard output, seen to be written. Throws where it cannot.
void print(std::string_view text);

// What others wrote, as one line that is safe to show on a terminal: control characters become \n, \x1b and so on.
std::string printable(std::string_view text);
// A line on standard error.
void complain(std::string_view message);

}  // namespace tool
