// Calls functions of finermoe.h and throws their errors.
#pragma once

#include <finermoe.h>

#include <string>
#include <utility>
#include <vector>

#include "failure.h"

namespace tool {

// An error of the library, with its code.
class LibraryError : public Failure {
 public:
  LibraryError(int32_t status, int exit_code, std::string message)
      : Failure(exit_code, std::move(message)), status_(status) {}
  int32_t status() const { return status_; }

 private:
  int32_t status_;
};

[[noreturn]] void raise(int32_t status, finermoe_error* error);  // takes ownership of the error

// Calls a function of the C API without its last parameter, the error, which it throws.
template <class Function, class... Arguments>
void call(Function function, Arguments... arguments) {
  finermoe_error* error = nullptr;
  const int32_t status = function(arguments..., &error);
  if (status != FINERMOE_OK) raise(status, error);
}

// The whole array returned by a function of the form (arguments…, buffer, capacity, needed, error).
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

// An output struct filled by a function that takes (object, struct*, error).
template <class Info, class Function, class Object>
Info read_info(Function function, const Object* object) {
  Info info{};
  info.struct_size = sizeof(Info);
  call(function, object, &info);
  return info;
}

}  // namespace tool
