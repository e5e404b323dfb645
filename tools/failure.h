// How a command ends.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace tool {

// Exit codes (docs/cli.md). A signal gives 128 plus its number.
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

}  // namespace tool
