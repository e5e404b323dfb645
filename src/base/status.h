// Errors as values. A function that can fail returns Status or Result<T>; exceptions (only std::bad_alloc can occur)
// are caught once, in api/.
#pragma once

#include <charconv>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "finermoe.h"

namespace finermoe {

using Code = int32_t;  // FINERMOE_OK or one of FINERMOE_ERROR_…: the public header is the one list of them

class [[nodiscard]] Status {
 public:
  Status() = default;
  // `message` is one human-readable line; `expected` and `found` are the two values it is about, if there are two.
  Status(Code code, std::string message, std::string expected = {}, std::string found = {})
      : code_(code), message_(std::move(message)), expected_(std::move(expected)), found_(std::move(found)) {}

  bool ok() const { return code_ == FINERMOE_OK; }
  Code code() const { return code_; }
  const std::string& message() const { return message_; }
  const std::string& expected() const { return expected_; }
  const std::string& found() const { return found_; }

 private:
  Code code_ = FINERMOE_OK;
  std::string message_, expected_, found_;
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}          // NOLINT: implicit, so that `return value;` works
  Result(Status status) : status_(std::move(status)) {}  // NOLINT: and `return Status(…);`
  bool ok() const { return status_.ok(); }
  const Status& status() const { return status_; }
  T& operator*() { return *value_; }
  const T& operator*() const { return *value_; }
  T* operator->() { return &*value_; }
  const T* operator->() const { return &*value_; }

 private:
  Status status_;
  std::optional<T> value_;
};

// Returns the status of `expression` from the enclosing function if that is an error.
#define FM_TRY(expression)                                                              \
  do {                                                                                  \
    if (::finermoe::Status fm_status = (expression); !fm_status.ok()) return fm_status; \
  } while (0)

#define FM_CONCAT_INNER(a, b) a##b
#define FM_CONCAT(a, b) FM_CONCAT_INNER(a, b)
// FM_ASSIGN(auto x, result_expression): declares or assigns x, or returns the error.
#define FM_ASSIGN(target, expression) FM_ASSIGN_INNER(FM_CONCAT(fm_result_, __LINE__), target, expression)
#define FM_ASSIGN_INNER(result, target, expression) \
  auto result = (expression);                       \
  if (!result.ok()) return result.status();         \
  target = std::move(*result)

// Text for messages, independent of the host's locale: format_text("layer ", 3, " of ", n).
inline void append_text(std::string& out, std::string_view text) { out += text; }
template <class Number>
requires std::is_arithmetic_v<Number>
void append_text(std::string& out, Number number) {
  char digits[64];
  auto end = std::to_chars(digits, digits + sizeof digits, number).ptr;
  out.append(digits, static_cast<size_t>(end - digits));
}
template <class... Parts>
std::string format_text(const Parts&... parts) {
  std::string out;
  (append_text(out, parts), ...);
  return out;
}

}  // namespace finermoe
