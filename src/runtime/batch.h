// Generations that advance together: one pass over the weights serves them all.
#pragma once

#include <memory>
#include <vector>

#include "runtime/generation.h"
#include "runtime/step.h"

namespace finermoe {

// The caller of every function must hold `use`.
class Batch {
 public:
  explicit Batch(std::shared_ptr<LoadedModel> model) : model_(std::move(model)) {}

  UseState use;
  const std::shared_ptr<LoadedModel>& model() const { return model_; }

  Status add(std::shared_ptr<Generation> generation);
  Status remove(const Generation& generation);
  // One step; returns how many members have not finished and can go on.
  Result<size_t> step(const CancelFlag* cancel);

  struct Event {
    uint64_t tag = 0;
    const GenerationEvent* event = nullptr;  // until the next call
  };
  // The next event of a member, after as many steps as it takes. A member leaves the batch with its last event.
  Result<Event> next(const CancelFlag* cancel);

 private:
  struct Step {
    size_t n_active = 0, n_computed = 0;  // members
  };
  Result<Step> advance(const CancelFlag* cancel);
  Status compute(std::vector<StepPart>& parts, std::vector<Generation*>& taking_part, size_t& n_active,
                 const StopSignals& stop);
  std::vector<TokenChoice> device_choices(std::span<const StepPart> parts, std::span<Generation* const> taking_part,
                                          bool is_alone) const;
  static bool leave_out_drafts(std::vector<StepPart>& parts);
  Status make_room_for_logits(size_t n_rows);
  Result<Event> event_of(Generation& member, const CancelFlag* cancel);
  std::shared_ptr<LoadedModel> model_;
  std::vector<std::shared_ptr<Generation>> members_;
  size_t turn_ = 0;                   // the member whose prompt comes first in this step
  size_t event_turn_ = 0;             // the member whose event comes first
  std::shared_ptr<Generation> last_;  // whose event was returned last
  GenerationEvent nobody_;            // the event when no member is left
  Buffer logits_;                     // [rows read out, vocab]
};

}  // namespace finermoe
