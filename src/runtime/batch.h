// Generations that advance together: one pass over the weights serves them all.
#pragma once

#include <memory>
#include <vector>

#include "runtime/generation.h"
#include "runtime/step.h"

namespace finermoe {

// The caller of every function holds `use`.
class Batch {
 public:
  explicit Batch(std::shared_ptr<LoadedModel> model) : model_(std::move(model)) {}

  UseState use;
  const std::shared_ptr<LoadedModel>& model() const { return model_; }

  Status add(std::shared_ptr<Generation> generation);
  Status remove(const Generation& generation);
  // One step; returns how many members have not finished and can go on.
  Result<size_t> step(const CancelFlag* cancel);

 private:
  Status compute(std::vector<StepPart>& parts, std::vector<Generation*>& taking_part, size_t& n_active,
                 const StopSignals& stop);
  std::shared_ptr<LoadedModel> model_;
  std::vector<std::shared_ptr<Generation>> members_;
  size_t turn_ = 0;  // whose prompt comes first in this step
  Buffer logits_;    // [members, vocab]
};

}  // namespace finermoe
