// A call of a function that enqueues work on a stream, kept with its arguments: it can be made later, more than once,
// and told from another one.
#pragma once

#include <cstddef>
#include <new>
#include <tuple>
#include <type_traits>

#include "cuda/driver.h"

namespace finermoe::cuda {

class Command {
 public:
  template <class... Parameters, class... Arguments>
  explicit Command(int (*function)(void* stream, Parameters...), const Arguments&... arguments)
      : kind_(&kind_of<std::decay_t<int (*)(void*, Parameters...)>, std::decay_t<Parameters>...>) {
    using Call = std::tuple<int (*)(void*, Parameters...), std::decay_t<Parameters>...>;
    static_assert(sizeof(Call) <= most_bytes && std::is_trivially_destructible_v<Call>);
    new (call_) Call(function, static_cast<std::decay_t<Parameters>>(arguments)...);
  }
  Command(const Command&) = delete;

  Code enqueue(StreamHandle stream) const { return kind_->enqueue(call_, stream); }
  bool operator==(const Command& other) const { return kind_ == other.kind_ && kind_->is_equal(call_, other.call_); }

 private:
  static constexpr size_t most_bytes = 240;

  // What can be done with a call of one signature.
  struct Kind {
    Code (*enqueue)(const std::byte* call, StreamHandle stream);
    bool (*is_equal)(const std::byte* a, const std::byte* b);
  };
  template <class... Parts>
  static const std::tuple<Parts...>& as(const std::byte* call) {
    return *std::launder(reinterpret_cast<const std::tuple<Parts...>*>(call));
  }
  template <class... Parts>
  static constexpr Kind kind_of = {
      [](const std::byte* call, StreamHandle stream) {
        return std::apply([&](auto function, const auto&... arguments) { return function(stream, arguments...); },
                          as<Parts...>(call));
      },
      [](const std::byte* a, const std::byte* b) { return as<Parts...>(a) == as<Parts...>(b); }};

  const Kind* const kind_;
  alignas(16) std::byte call_[most_bytes];
};

}  // namespace finermoe::cuda
