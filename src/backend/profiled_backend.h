// A backend that profiles another one: for each operation, how often and how long it ran, and what it had to read and
// multiply.
#pragma once

#include <array>
#include <memory>
#include <mutex>

#include "backend/backend.h"

namespace finermoe {

struct OperationProfile {
  const char* name;
  uint64_t n_calls = 0;
  double seconds = 0;
  uint64_t bytes = 0;  // of the weights or cache that the calls had to read, each counted once per call
  uint64_t macs = 0;   // multiply-accumulates of the calls' matrix products
};

class Profile {
 public:
  enum Operation { embed, rms_norm, qkv, attention, linear, route, moe_ffn, gated_ffn, n_operations };

  void add(Operation operation, double seconds, uint64_t bytes, uint64_t macs);
  std::array<OperationProfile, n_operations> read() const;
  void reset();

 private:
  mutable std::mutex mutex_;
  std::array<OperationProfile, n_operations> operations_{
      {{"embed"}, {"rms_norm"}, {"qkv"}, {"attention"}, {"linear"}, {"route"}, {"moe_ffn"}, {"gated_ffn"}}};
};

// Forwards every operation. Thread-safe, like the backend it wraps.
std::shared_ptr<Backend> profiled(std::shared_ptr<Backend> backend, std::shared_ptr<Profile> profile);

}  // namespace finermoe
