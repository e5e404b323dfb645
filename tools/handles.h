// Owners of the C API's objects.
#pragma once

#include <finermoe.h>

#include <utility>

namespace tool {

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
  // Where a `_create` or `_open` call stores the object.
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

}  // namespace tool
