#include "runtime/batch.h"

#include <algorithm>
#include <deque>

#include "runtime/step.h"

namespace finermoe {

Status Batch::add(std::shared_ptr<Generation> generation) {
  if (generation->session()->model() != model_) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the generation belongs to another model than the batch");
  }
  const Precision precision = generation->session()->options().precision;
  if (!members_.empty() && members_[0]->session()->options().precision != precision) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the sessions of a batch share one precision",
                  precision == Precision::fast ? "FINERMOE_PRECISION_EXACT" : "FINERMOE_PRECISION_FAST",
                  precision == Precision::fast ? "FINERMOE_PRECISION_FAST" : "FINERMOE_PRECISION_EXACT");
  }
  for (const auto& member : members_) {
    if (member == generation) return Status(FINERMOE_ERROR_STATE, "the generation is in the batch already");
    if (member->session() == generation->session()) {
      return Status(FINERMOE_ERROR_STATE, "the generation's session is in the batch already, with another generation");
    }
  }
  members_.push_back(std::move(generation));
  return {};
}

Status Batch::remove(const Generation& generation) {
  auto at = std::find_if(members_.begin(), members_.end(), [&](const auto& m) { return m.get() == &generation; });
  if (at == members_.end()) return Status(FINERMOE_ERROR_STATE, "the generation is not in the batch");
  members_.erase(at);
  return {};
}

Result<size_t> Batch::step(const CancelFlag* cancel) {
  // Everybody who takes part is held for the step: a member that another thread uses just now sits this one out, and
  // one that cannot go on holds nobody else up.
  std::deque<Use> held;
  std::vector<Generation*> decoding, prefilling;
  size_t n_active = 0;
  for (size_t i = 0; i < members_.size(); i++) {
    Generation& member = *members_[(turn_ + i) % members_.size()];
    const Use& of_member = held.emplace_back(member.use, "generation");
    if (of_member.is_busy()) {
      n_active++;
      continue;
    }
    if (!of_member.check().ok() || member.finish() != Finish::none) continue;
    const Use& of_session = held.emplace_back(member.session()->use, "session");
    if (of_session.is_busy()) {
      n_active++;
      continue;
    }
    if (member.look() != FINERMOE_OK) continue;
    n_active++;
    if (member.prepared()) continue;
    (member.pending().size() == 1 ? decoding : prefilling).push_back(&member);
  }
  turn_++;

  // All who decode, and prompts in turn as far as a chunk reaches.
  constexpr size_t last_of_one = 0;
  std::deque<size_t> last_rows;
  std::vector<StepPart> parts;
  std::vector<Generation*> taking_part;
  for (Generation* member : decoding) {
    parts.push_back({member->session().get(), member->pending(), std::span(&last_of_one, 1)});
    taking_part.push_back(member);
  }
  size_t room = SessionOptions::default_chunk;
  for (Generation* member : prefilling) {
    const size_t n = std::min({room, member->pending().size(), member->session()->options().chunk});
    if (n == 0) break;
    room -= n;
    last_rows.push_back(n - 1);
    const bool all = n == member->pending().size();
    parts.push_back({member->session().get(), member->pending().first(n), std::span(&last_rows.back(), all ? 1 : 0)});
    taking_part.push_back(member);
  }
  StopSignals stop(cancel);
  stop.watch(model_->closed, "model");
  stop.watch(use.closed, "batch");
  FM_TRY(compute(parts, taking_part, n_active, stop));
  return n_active;
}

// Without those whose part fails alone: they leave `n_active`, and the step is run again, so that the others have the
// logits that they would have had without them.
Status Batch::compute(std::vector<StepPart>& parts, std::vector<Generation*>& taking_part, size_t& n_active,
                      const StopSignals& stop) {
  const uint64_t vocab = model_->config().vocab_size;
  while (!parts.empty()) {
    const uint64_t bytes = parts.size() * vocab * sizeof(float);
    if (logits_.size() < bytes) {
      logits_ = Buffer();
      FM_ASSIGN(logits_, Buffer::allocate(model_->runtime()->account(), bytes, "logits"));
    }
    Status status = run_step(*model_, parts, logits_.data<float>(), stop);
    if (status.ok()) break;
    const size_t n_before = parts.size();
    for (size_t i = n_before; i-- > 0;) {
      if (parts[i].status == FINERMOE_OK) continue;
      if (parts[i].status != FINERMOE_ERROR_BUSY) {  // a trace in use is free again sometime
        taking_part[i]->set_aside(parts[i].status);
        n_active--;
      }
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(i));
      taking_part.erase(taking_part.begin() + static_cast<ptrdiff_t>(i));
    }
    if (parts.size() == n_before) return status;
  }
  std::vector<std::span<const float>> rows;  // of each part, empty where a prompt goes on
  size_t n_rows = 0;
  for (const StepPart& part : parts) {
    rows.emplace_back(logits_.data<float>() + n_rows * vocab, part.logit_rows.empty() ? 0 : vocab);
    n_rows += part.logit_rows.size();
  }
  model_->runtime()->pool()->run(parts.size(),
                                 [&](size_t i, size_t) { taking_part[i]->computed(parts[i].tokens.size(), rows[i]); });
  for (const Generation* member : taking_part) n_active -= member->status() != FINERMOE_OK;
  return {};
}

}  // namespace finermoe
