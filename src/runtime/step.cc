#include "runtime/step.h"

#include <algorithm>
#include <deque>

namespace finermoe {
namespace {

// The parts laid out as one ragged batch.
struct Rows {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> positions, sessions;
  std::vector<KvCacheView> caches;
  std::vector<size_t> logit_rows;
  std::vector<size_t> first;  // [parts] first row of each
  uint64_t longest = 0;       // capacity of the longest session

  explicit Rows(std::span<const StepPart> parts) {
    for (const StepPart& part : parts) {
      const size_t begin = tokens.size();
      first.push_back(begin);
      for (size_t i = 0; i < part.tokens.size(); i++) {
        positions.push_back(static_cast<uint32_t>(part.session->length() + i));
        sessions.push_back(static_cast<uint32_t>(caches.size()));
      }
      tokens.insert(tokens.end(), part.tokens.begin(), part.tokens.end());
      for (size_t row : part.logit_rows) logit_rows.push_back(begin + row);
      caches.push_back(part.session->cache());
      longest = std::max(longest, part.session->capacity());
    }
  }
  RaggedBatch batch() const { return {tokens, positions, sessions, caches}; }
};

// The traces that record a step. One that is not committed, because of an error or an exception, forgets the step.
class Recording {
 public:
  explicit Recording(size_t n_parts) { begun_.reserve(n_parts); }
  ~Recording() {
    for (Trace* trace : begun_) trace->roll_back();
  }
  Status begin(Trace& trace, size_t n_tokens) {
    FM_TRY(uses_.emplace_back(trace.use, "trace").check());
    FM_TRY(trace.begin(n_tokens));
    begun_.push_back(&trace);
    return {};
  }
  void commit() {
    for (Trace* trace : begun_) trace->commit();
    begun_.clear();
  }

 private:
  std::deque<Use> uses_;
  std::vector<Trace*> begun_;
};

}  // namespace

Status run_step(LoadedModel& model, std::span<const StepPart> parts, float* logits, const StopSignals& stop) {
  FM_TRY(stop.check());
  FM_TRY(model.model().checkpoint->check_unchanged());
  const Rows rows(parts);
  if (!rows.logit_rows.empty()) FM_TRY(model.settle_head());
  FM_ASSIGN(auto scratch, model.borrow_scratch(rows.tokens.size(), rows.longest));
  (*scratch).workspace->precision = parts[0].session->options().precision;

  Recording recording(parts.size());
  for (const StepPart& part : parts) {
    part.session->make_room(part.tokens.size());
    if (part.session->trace != nullptr) FM_TRY(recording.begin(*part.session->trace, part.tokens.size()));
  }
  const ThreadPool::Step step(*model.runtime()->pool());
  auto go_on = [&] { return stop.check(); };
  auto routed = [&](size_t layer, const Route& route, size_t) {
    for (size_t i = 0; i < parts.size(); i++) {
      Trace* trace = parts[i].session->trace.get();
      if (trace != nullptr) trace->record(layer, route, rows.first[i], parts[i].tokens.size());
    }
  };
  FM_TRY(forward(model.model(), rows.batch(), rows.logit_rows, logits, *scratch, {go_on, routed}));
  recording.commit();
  for (const StepPart& part : parts) part.session->extend(part.tokens);
  return {};
}

}  // namespace finermoe
