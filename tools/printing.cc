#include "printing.h"

#include <cerrno>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/printable.h"
#include "failure.h"

namespace tool {

Json json_float(float value) {
  if (!std::isfinite(value)) return nullptr;
  char text[32];
  const char* end = std::to_chars(text, text + sizeof text, value).ptr;
  double number = 0;
  std::from_chars(text, end, number);
  return number;
}

std::string dump(const Json& json, int indent) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace) + "\n";
}

void print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0) {
    throw Failure(kError, std::string("cannot write to standard output: ") + std::strerror(errno));
  }
}

void complain(std::string_view message) { std::fprintf(stderr, "%s\n", finermoe::printable(message).c_str()); }

}  // namespace tool
