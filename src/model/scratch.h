// What one pass needs on every participating device, and between them. Used by one pass at a time and reused by the
// next.
#pragma once

#include <memory>
#include <vector>

#include "model/model.h"

namespace finermoe {

class Scratch {
 public:
  explicit Scratch(const Model& model)
      : fetched(model.expert_cache ? ExpertCache::InUse(*model.expert_cache) : ExpertCache::InUse()) {}
  // Bytes that make() allocates.
  static uint64_t bytes(const Model& model, size_t n_rows, uint64_t n_positions, size_t n_threads);
  static Result<std::unique_ptr<Scratch>> make(const Model& model, size_t n_rows, uint64_t n_positions,
                                               std::shared_ptr<MemoryAccount> account);

  // The step of a device of the placement.
  Step& step(size_t device) { return *steps_[device]; }
  size_t n_devices() const { return steps_.size(); }
  size_t n_rows() const { return steps_[0]->n_rows(); }
  uint64_t n_positions() const { return steps_[0]->n_positions(); }
  // Step::row_error() of the first device that has one.
  Status row_error(size_t row) const;

  // On the host; used if the route's experts must be known there, or if anything is on another device.
  int32_t* experts = nullptr;  // [n_rows, k]
  float* weights = nullptr;    // [n_rows, k]
  float* hidden = nullptr;     // [n_rows, h]
  // The experts that the pass has fetched; of a model that has a cache of them.
  ExpertCache::InUse fetched;

 private:
  std::vector<std::unique_ptr<Step>> steps_;
  Buffer host_;
};

}  // namespace finermoe
