// SHA-256 of a stream of bytes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>

namespace finermoe {

class Sha256 {
 public:
  Sha256();
  ~Sha256();
  void update(std::span<const std::byte> bytes);
  // 64 lower-case hexadecimal digits of everything so far; more may follow.
  std::string hex() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace finermoe
