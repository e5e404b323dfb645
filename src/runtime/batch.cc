#include "runtime/batch.h"

#include <algorithm>
#include <deque>

#include "base/stopwatch.h"
#include "runtime/step.h"

namespace finermoe {

Status Batch::add(std::shared_ptr<Generation> generation) {
  if (generation->session()->model() != model_) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the generation belongs to another model than the batch");
  }
  const Precision precision = generation->session()->precision();
  if (!members_.empty() && members_[0]->session()->precision() != precision) {
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
  FM_ASSIGN(const Step step, advance(cancel));
  return step.n_active;
}

Result<Batch::Step> Batch::advance(const CancelFlag* cancel) {
  // All participants are held for the step: a member in use by another thread skips this step, and one that cannot go
  // on does not block the others.
  StopSignals stop(cancel);
  stop.watch(model_->closed, "model");
  stop.watch(use.closed, "batch");
  FM_TRY(stop.check());
  std::deque<ExclusiveUse> held;
  std::vector<Generation*> decoding, prefilling;
  Step step;
  for (size_t i = 0; i < members_.size(); i++) {
    Generation& member = *members_[(turn_ + i) % members_.size()];
    const ExclusiveUse& of_member = held.emplace_back(member.use, "generation");
    if (of_member.is_busy()) {
      step.n_active++;
      continue;
    }
    if (!of_member.check().ok() || member.finish() != Finish::none) continue;
    const ExclusiveUse& of_session = held.emplace_back(member.session()->use, "session");
    if (of_session.is_busy()) {
      step.n_active++;
      continue;
    }
    if (!member.check().ok()) continue;
    if (!member.prepared()) {
      if (!member.ready_session().ok()) continue;
      if (member.adopt_ahead()) {
        step.n_computed++;
        if (!member.check().ok()) continue;
      } else {
        (member.session()->uncomputed().size() == 1 ? decoding : prefilling).push_back(&member);
      }
    }
    step.n_active++;
  }
  turn_++;

  // All members that decode, and prompts in turn until a chunk is full. Drafts only where there are no prompts, whose
  // rows would cost much if each had the bits of a pass of its own, and no more than can have them.
  std::deque<size_t> last_rows;
  std::vector<StepPart> parts;
  std::vector<Generation*> taking_part;
  const size_t most_rows = std::min(SessionOptions::default_chunk, model_->most_rows_as_alone());
  const size_t n_rows_left = most_rows - std::min(most_rows, decoding.size());
  const size_t n_drafts = prefilling.empty() && !decoding.empty() ? n_rows_left / decoding.size() : 0;
  Generation::draft(decoding, std::min(n_drafts, most_drafts), stop);
  for (Generation* member : decoding) {
    const std::span<const int32_t> drafts = member->drafts();
    const std::span<const size_t> rows = std::span(rows_of_drafts).first(1 + drafts.size());
    parts.push_back({.session = member->session().get(), .n = 1, .rows = rows, .drafts = drafts});
    taking_part.push_back(member);
  }
  size_t room = SessionOptions::default_chunk;
  for (Generation* member : prefilling) {
    Session& session = *member->session();
    const size_t n_waiting = session.uncomputed().size(), n = std::min({room, n_waiting, session.options().chunk});
    if (n == 0) break;
    room -= n;
    last_rows.push_back(n - 1);
    parts.push_back({&session, n, std::span(&last_rows.back(), n == n_waiting ? 1 : 0)});
    taking_part.push_back(member);
  }
  FM_TRY(compute(parts, taking_part, step.n_active, stop));
  step.n_computed += parts.size();
  for (const Generation* member : taking_part) FM_TRY(member->report_prefill());
  return step;
}

// How the device may choose for the rows that are read out; empty unless it may for all of them. Only a member that is
// alone in the batch has tokens chosen ahead: it would be missing in the passes of others.
std::vector<TokenChoice> Batch::device_choices(std::span<const StepPart> parts,
                                               std::span<Generation* const> taking_part, bool is_alone) const {
  std::vector<TokenChoice> choices;
  for (size_t i = 0; i < parts.size(); i++) {
    if (parts[i].rows.empty()) continue;
    if (!parts[i].drafts.empty()) return {};
    const std::vector<TokenChoice> of_part = taking_part[i]->device_choices(is_alone);
    if (of_part.empty()) return {};
    choices.insert(choices.end(), of_part.begin(), of_part.end());
  }
  return choices;
}

// A step that fails with drafts, or with tokens that a device chooses ahead, is run again without. Then parts that fail
// alone are dropped: they leave `n_active`, and the step is run again, so that the others get the logits that they
// would have had without them. If there is not enough memory for all at once, some wait for the next step: each has
// enough for itself.
Status Batch::compute(std::vector<StepPart>& parts, std::vector<Generation*>& taking_part, size_t& n_active,
                      const StopSignals& stop) {
  const uint64_t vocab = model_->config().vocab_size;
  const Stopwatch watch;
  double pass_seconds = 0;  // of the one that succeeds
  size_t n_drafts = 0;
  bool may_choose_ahead = members_.size() == 1;
  std::vector<TokenChoice> choices;
  std::vector<ChosenToken> chosen;
  while (!parts.empty()) {
    choices = device_choices(parts, taking_part, may_choose_ahead);
    size_t n_rows = 0;
    n_drafts = 0;
    for (const StepPart& part : parts) n_rows += part.rows.size(), n_drafts += part.drafts.size();
    chosen.assign(std::max(n_rows, choices.size()), {});
    const Stopwatch pass_watch;
    Status status = make_room_for_logits(n_rows);
    if (status.ok()) {
      status = run_step(*model_, parts,
                        {.logits = logits_.data<float>(),
                         .choices = choices,
                         .n_choosable = taking_part[0]->n_choosable(),
                         .chosen = chosen.data()},
                        stop);
    }
    pass_seconds = pass_watch.seconds();
    if (status.ok()) break;
    if (leave_out_drafts(parts)) continue;
    if (choices.size() > n_rows) {
      may_choose_ahead = false;
      parts[0].status = {};
      continue;
    }
    const size_t n_before = parts.size();
    for (size_t i = n_before; i-- > 0;) {
      if (parts[i].status.ok()) continue;
      if (parts[i].status.code() != FINERMOE_ERROR_BUSY) {  // a trace in use will be free again
        taking_part[i]->set_aside(std::move(parts[i].status));
        n_active--;
      }
      parts.erase(parts.begin() + static_cast<ptrdiff_t>(i));
      taking_part.erase(taking_part.begin() + static_cast<ptrdiff_t>(i));
    }
    if (parts.size() < n_before) continue;
    if (status.code() != FINERMOE_ERROR_MEMORY_LIMIT || n_before == 1) return status;
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(n_before / 2), parts.end());
    taking_part.resize(parts.size());
  }
  const double seconds = watch.seconds();
  std::vector<std::span<const float>> rows;          // of each part; empty if its prompt continues
  std::vector<std::span<const ChosenToken>> tokens;  // the same
  size_t n_rows = 0;
  for (const StepPart& part : parts) {
    rows.emplace_back(logits_.data<float>() + n_rows * vocab, part.rows.size() * vocab);
    const size_t n_chosen = parts.size() == 1 ? choices.size() : std::min(choices.size(), part.rows.size());
    tokens.push_back(std::span<const ChosenToken>(chosen).subspan(n_rows, n_chosen));
    n_rows += part.rows.size();
  }
  model_->runtime()->pool()->run(
      parts.size(), [&](size_t i, size_t) { taking_part[i]->computed(parts[i].n, seconds, rows[i], tokens[i]); });
  const bool decode_alone = std::all_of(parts.begin(), parts.end(), [](const StepPart& part) { return part.n == 1; });
  for (Generation* member : taking_part) {
    if (decode_alone) member->decoded(n_drafts, pass_seconds);
    n_active -= !member->check().ok();
  }
  return {};
}

// False: there are none.
bool Batch::leave_out_drafts(std::vector<StepPart>& parts) {
  bool were_there = false;
  for (StepPart& part : parts) {
    if (part.drafts.empty()) continue;
    were_there = true;
    part.drafts = {};
    part.rows = part.rows.first(1);
  }
  for (StepPart& part : parts) {
    if (were_there) part.status = {};
  }
  return were_there;
}

Status Batch::make_room_for_logits(size_t n_rows) {
  const uint64_t bytes = n_rows * model_->config().vocab_size * sizeof(float);
  if (logits_.size() >= bytes) return {};
  logits_ = Buffer();
  FM_ASSIGN(logits_, Buffer::allocate(model_->runtime()->account(), bytes, "logits"));
  return {};
}

// The event that a member has ready; null if it has none, BUSY if another thread is using the member.
Result<Batch::Event> Batch::event_of(Generation& member, const CancelFlag* cancel) {
  const ExclusiveUse use_of_member(member.use, "generation");
  Status status = use_of_member.check();
  if (status.code() == FINERMOE_ERROR_BUSY) return status;
  if (status.ok()) status = member.check();
  if (status.ok() && member.finish() == Finish::none && !member.prepared()) return Event{};
  if (status.ok()) {
    const auto event = member.next(cancel);
    if (event.ok()) return Event{member.tag, *event};
    status = event.status();
  }
  const Code code = status.code();  // these leave it as it was, and another call can return the event
  if (code == FINERMOE_ERROR_BUSY || code == FINERMOE_ERROR_CANCELLED || code == FINERMOE_ERROR_OUT_OF_MEMORY) {
    return status;
  }
  return Event{member.tag, member.fail(std::move(status))};
}

Result<Batch::Event> Batch::next(const CancelFlag* cancel) {
  last_.reset();
  for (bool has_advanced = true;;) {
    StopSignals stop(cancel);
    stop.watch(use.closed, "batch");
    FM_TRY(stop.check());
    for (size_t i = 0; i < members_.size(); i++) {
      const size_t index = (event_turn_ + i) % members_.size();
      const auto ready = event_of(*members_[index], cancel);
      if (ready.status().code() == FINERMOE_ERROR_BUSY) continue;
      FM_TRY(ready.status());
      if (ready->event == nullptr) continue;
      last_ = members_[index];
      const bool is_last = ready->event->finish != Finish::none;
      if (is_last) members_.erase(members_.begin() + static_cast<ptrdiff_t>(index));
      event_turn_ = is_last ? index : index + 1;
      return *ready;
    }
    if (members_.empty()) return Event{0, &nobody_};
    if (!has_advanced) return Status(FINERMOE_ERROR_BUSY, "other threads use all members that are left in the batch");
    FM_ASSIGN(const Step step, advance(cancel));
    has_advanced = step.n_computed > 0;
  }
}

}  // namespace finermoe
