// C++ wrappers of the C API for tests: handles that free themselves, and calls that must succeed.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "finermoe.h"

template <auto Free>
struct FreeWith {
  template <class T>
  void operator()(T* handle) const {
    Free(handle);
  }
};
using ErrorHandle = std::unique_ptr<finermoe_error, FreeWith<finermoe_error_free>>;
using CancelHandle = std::unique_ptr<finermoe_cancel, FreeWith<finermoe_cancel_free>>;
using RuntimeOptions = std::unique_ptr<finermoe_runtime_options, FreeWith<finermoe_runtime_options_free>>;
using RuntimeHandle = std::unique_ptr<finermoe_runtime, FreeWith<finermoe_runtime_free>>;
using ModelOptions = std::unique_ptr<finermoe_model_options, FreeWith<finermoe_model_options_free>>;
using ModelHandle = std::unique_ptr<finermoe_model, FreeWith<finermoe_model_free>>;
using ConfigHandle = std::unique_ptr<finermoe_config, FreeWith<finermoe_config_free>>;
using PlanOptions = std::unique_ptr<finermoe_plan_options, FreeWith<finermoe_plan_options_free>>;
using TokenizerHandle = std::unique_ptr<finermoe_tokenizer, FreeWith<finermoe_tokenizer_free>>;
using DecoderHandle = std::unique_ptr<finermoe_decoder, FreeWith<finermoe_decoder_free>>;
using ChatHandle = std::unique_ptr<finermoe_chat, FreeWith<finermoe_chat_free>>;
using SessionOptions = std::unique_ptr<finermoe_session_options, FreeWith<finermoe_session_options_free>>;
using SessionHandle = std::unique_ptr<finermoe_session, FreeWith<finermoe_session_free>>;
using TraceHandle = std::unique_ptr<finermoe_trace, FreeWith<finermoe_trace_free>>;
using GenerationOptions = std::unique_ptr<finermoe_generation_options, FreeWith<finermoe_generation_options_free>>;
using GenerationHandle = std::unique_ptr<finermoe_generation, FreeWith<finermoe_generation_free>>;
using SamplerHandle = std::unique_ptr<finermoe_sampler, FreeWith<finermoe_sampler_free>>;
using BatchHandle = std::unique_ptr<finermoe_batch, FreeWith<finermoe_batch_free>>;

// What a failed call reported.
struct Failure {
  int32_t code = FINERMOE_OK;
  std::string message, expected, found;
};
// failure_of([&](finermoe_error** e) { return finermoe_…(…, e); })
template <class Call>
Failure failure_of(Call&& call) {
  finermoe_error* raw = reinterpret_cast<finermoe_error*>(1);  // must be overwritten
  const int32_t code = call(&raw);
  ErrorHandle error(raw);
  EXPECT_EQ(code, finermoe_error_code(raw));
  return {code, finermoe_error_message(raw), finermoe_error_expected(raw), finermoe_error_found(raw)};
}

// Creates an object, or fails the test: make<SessionHandle>([&](auto** out, auto** e) { return …(out, e); })
template <class Handle, class Create>
Handle make(Create&& create) {
  typename Handle::pointer out = nullptr;
  finermoe_error* error = nullptr;
  const int32_t code = create(&out, &error);
  EXPECT_EQ(code, FINERMOE_OK) << finermoe_error_message(error);
  finermoe_error_free(error);
  return Handle(out);
}
#define EXPECT_DONE(call)                                                        \
  do {                                                                           \
    Failure failure_here = failure_of([&](finermoe_error** e) { return call; }); \
    EXPECT_EQ(failure_here.code, FINERMOE_OK) << failure_here.message;           \
  } while (0)

// Reads an array by the (buffer, capacity, needed) convention.
template <class T, class Call>
std::vector<T> read_array(Call&& call) {
  size_t needed = 0;
  finermoe_error* error = nullptr;
  const int32_t asked = call(static_cast<T*>(nullptr), size_t{0}, &needed, &error);
  finermoe_error_free(error);
  EXPECT_EQ(asked, needed == 0 ? FINERMOE_OK : FINERMOE_ERROR_BUFFER_TOO_SMALL);
  std::vector<T> out(needed);
  EXPECT_DONE(call(out.data(), out.size(), &needed, e));
  return out;
}

// The device that the tests use, and the one for the routed experts; null for the CPU.
inline const char* test_device() { return std::getenv("FINERMOE_TEST_DEVICE"); }
inline const char* test_expert_device() { return std::getenv("FINERMOE_TEST_EXPERT_DEVICE"); }

// Whether half the layers of models are on the CPU.
inline bool test_divides_layers() { return std::getenv("FINERMOE_TEST_HALF_THE_LAYERS") != nullptr; }

// Whether the CPU computes nothing.
inline bool is_all_on_a_gpu() {
  const bool is_gpu = test_device() != nullptr && std::string(test_device()).starts_with("cuda");
  return is_gpu && test_expert_device() == nullptr && !test_divides_layers();
}

// One of two sizes of a test: an emulated GPU takes seconds for what other devices do in milliseconds.
template <class T>
T unless_emulated(T usual, T emulated) {
  return test_device() != nullptr && std::string(test_device()).starts_with("cuda-emulated") ? emulated : usual;
}

// With the device of the tests.
inline RuntimeOptions runtime_options() {
  auto options = make<RuntimeOptions>([](auto** out, auto** e) { return finermoe_runtime_options_create(out, e); });
  EXPECT_DONE(finermoe_runtime_options_set_device(options.get(), test_device(), e));
  EXPECT_DONE(finermoe_runtime_options_set_device_module(options.get(), std::getenv("FINERMOE_TEST_DEVICE_MODULE"), e));
  return options;
}
inline RuntimeHandle create_runtime(const RuntimeOptions& options) {
  return make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_create(options.get(), out, e); });
}
inline RuntimeHandle open_runtime(uint32_t n_threads, int32_t isa = FINERMOE_ISA_AUTO, uint64_t memory_limit = 0) {
  auto options = runtime_options();
  EXPECT_DONE(finermoe_runtime_options_set_threads(options.get(), n_threads, e));
  EXPECT_DONE(finermoe_runtime_options_set_isa(options.get(), isa, e));
  EXPECT_DONE(finermoe_runtime_options_set_memory_limit(options.get(), memory_limit, e));
  return create_runtime(options);
}

// Those that this machine supports; one where all is on a GPU, for which they make no difference.
inline std::vector<int32_t> instruction_sets() {
  if (is_all_on_a_gpu()) return {FINERMOE_ISA_AUTO};
  finermoe_system_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_system_get_info(&info, e));
  std::vector<int32_t> sets;
  for (const int32_t isa : {FINERMOE_ISA_PORTABLE, FINERMOE_ISA_AVX2, FINERMOE_ISA_AVX512, FINERMOE_ISA_AMX}) {
    if ((info.isas >> isa & 1) != 0) sets.push_back(isa);
  }
  EXPECT_FALSE(sets.empty());
  return sets;
}

// Whether the CPU computes with matrix tiles, which need more scratch than any other way and sum more than 32 rows in
// another order than fewer (docs/amx.md).
inline bool has_tiles() { return instruction_sets().back() == FINERMOE_ISA_AMX; }

// Numbers of threads that must make no difference.
inline std::vector<uint32_t> thread_counts() {
  return is_all_on_a_gpu() ? std::vector<uint32_t>{1, 3} : std::vector<uint32_t>{1, 2, 3, 5};
}

// A limit of weights with which about half of a model's layers, without their experts, are on the tests' device.
inline uint64_t weights_of_half_the_layers(const std::string& path) {
  auto config = make<ConfigHandle>([&](auto** out, auto** e) { return finermoe_config_open(path.c_str(), out, e); });
  auto options = make<PlanOptions>([](auto** out, auto** e) { return finermoe_plan_options_create(out, e); });
  const auto plan_for = [&](uint64_t memory) {
    EXPECT_DONE(finermoe_plan_options_set_device(options.get(), std::getenv("FINERMOE_TEST_DEVICE_MODULE"),
                                                 test_device(), memory, e));
    finermoe_plan plan{};
    plan.struct_size = sizeof plan;
    EXPECT_DONE(finermoe_plan_compute(config.get(), options.get(), &plan, e));
    return plan;
  };
  const finermoe_plan least = plan_for(1), most = plan_for(uint64_t{1} << 50);
  return (least.device_weights + most.device_weights - most.device_routed) / 2;
}

// With the expert device of the tests.
inline ModelOptions model_options(finermoe_runtime* runtime) {
  auto options = make<ModelOptions>([](auto** out, auto** e) { return finermoe_model_options_create(out, e); });
  EXPECT_DONE(finermoe_model_options_set_runtime(options.get(), runtime, e));
  EXPECT_DONE(finermoe_model_options_set_expert_device(options.get(), test_expert_device(), e));
  return options;
}
// The same for the model of a path, whose layers the tests may divide. Without a runtime, on another device than the
// CPU: one of its own.
inline ModelOptions model_options(const std::string& path, finermoe_runtime* runtime) {
  RuntimeHandle own;
  if (runtime == nullptr && test_device() != nullptr) own = create_runtime(runtime_options());
  auto options = model_options(runtime != nullptr ? runtime : own.get());
  if (test_divides_layers()) {
    EXPECT_DONE(finermoe_model_options_set_device_weights(options.get(), weights_of_half_the_layers(path), e));
  }
  return options;
}
inline ModelHandle open_model(const std::string& path, finermoe_runtime* runtime = nullptr, bool copy = false) {
  auto options = model_options(path, runtime);
  EXPECT_DONE(finermoe_model_options_set_copy(options.get(), copy, e));
  return make<ModelHandle>(
      [&](auto** out, auto** e) { return finermoe_model_open(path.c_str(), options.get(), out, e); });
}

inline SessionHandle open_session(finermoe_model* model, size_t context = 0, size_t chunk = 0,
                                  int32_t kv_dtype = FINERMOE_DTYPE_F32) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), context, e));
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), chunk, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), kv_dtype, e));
  return make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

inline std::vector<float> session_logits(finermoe_session* session, size_t row) {
  return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_logits(session, row, out, capacity, needed, e);
  });
}
// All rows that the last append kept, concatenated.
inline std::vector<float> all_logits(finermoe_session* session) {
  finermoe_session_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_session_get_info(session, &info, e));
  std::vector<float> all;
  for (size_t row = 0; row < info.n_logits; row++) {
    const auto logits = session_logits(session, row);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  return all;
}
inline std::vector<int32_t> session_tokens(finermoe_session* session) {
  return read_array<int32_t>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_session_tokens(session, out, capacity, needed, e);
  });
}

inline GenerationOptions generation_options(finermoe_model* model) {
  return make<GenerationOptions>(
      [&](auto** out, auto** e) { return finermoe_generation_options_create(model, out, e); });
}
inline GenerationHandle generate(finermoe_session* session, finermoe_generation_options* options,
                                 const std::vector<int32_t>& prompt) {
  return make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_create(session, options, prompt.data(), prompt.size(), out, e);
  });
}

// What a generation produced until it finished.
struct Generated {
  std::vector<int32_t> ids;
  std::string text;
  std::vector<float> logprobs;
  int32_t finish = FINERMOE_FINISH_NONE;
};
inline finermoe_event next_event(finermoe_generation* generation, finermoe_cancel* cancel = nullptr) {
  finermoe_event event{};
  event.struct_size = sizeof event;
  EXPECT_DONE(finermoe_generation_next(generation, cancel, &event, e));
  return event;
}
inline void take(const finermoe_event& event, Generated& out) {
  if (event.token >= 0) {
    out.ids.push_back(event.token);
    out.logprobs.push_back(event.logprob);
  }
  out.text.append(event.text, event.text_length);
  out.finish = event.finish_reason;
}
inline Generated run_out(finermoe_generation* generation) {
  Generated out;
  while (out.finish == FINERMOE_FINISH_NONE && !testing::Test::HasFailure()) take(next_event(generation), out);
  return out;
}
