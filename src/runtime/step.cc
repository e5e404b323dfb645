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
  std::vector<size_t> read_out;
  std::vector<size_t> first;  // [parts] first row of each
  uint64_t longest = 0;       // capacity of the longest session

  explicit Rows(std::span<StepPart> parts) {
    for (const StepPart& part : parts) {
      const size_t begin = tokens.size();
      first.push_back(begin);
      for (size_t i = 0; i < part.n; i++) {
        positions.push_back(static_cast<uint32_t>(part.session->n_computed() + i));
        sessions.push_back(static_cast<uint32_t>(caches.size()));
      }
      const std::span<const int32_t> of_part = part.session->uncomputed().first(part.n);
      tokens.insert(tokens.end(), of_part.begin(), of_part.end());
      for (size_t row : part.rows) read_out.push_back(begin + row);
      caches.push_back(part.session->cache());
      longest = std::max(longest, part.session->capacity());
    }
  }
  RaggedBatch batch() const { return {tokens, positions, sessions, caches}; }
};

// The traces of the sessions that take part; rolled back unless committed.
class Recording {
 public:
  Recording() = default;
  Recording(const Recording&) = delete;
  ~Recording() {
    for (Trace* trace : begun_) trace->roll_back();
  }

  Status begin(std::span<StepPart> parts) {
    Status first_error;
    begun_.reserve(parts.size());
    for (StepPart& part : parts) {
      Trace* trace = part.session->trace().get();
      if (trace == nullptr) continue;
      Status status = uses_.emplace_back(trace->use, "trace").check();
      if (status.ok()) status = trace->begin(part.session->n_computed(), part.n);
      if (status.ok()) begun_.push_back(trace);
      part.status = status;
      if (first_error.ok()) first_error = std::move(status);
    }
    return first_error;
  }
  void commit() {
    for (Trace* trace : begun_) trace->commit();
    begun_.clear();
  }

 private:
  std::deque<Use> uses_;
  std::vector<Trace*> begun_;
};

// A router that fails marks the rows that it cannot send anywhere.
void mark_parts_without_route(const Rows& rows, const Route& route, size_t n_choices, const Status& status,
                              std::span<StepPart> parts) {
  for (size_t i = 0; i < parts.size(); i++) {
    for (size_t row = rows.first[i]; row < rows.first[i] + parts[i].n; row++) {
      if (route.experts[row * n_choices] < 0) parts[i].status = status;
    }
  }
}

}  // namespace

Status run_step(LoadedModel& model, std::span<StepPart> parts, Readout readout, const StopSignals& stop) {
  FM_TRY(stop.check());
  FM_TRY(model.model().checkpoint->check_unchanged());
  const Rows rows(parts);
  readout.rows = rows.read_out;
  if (readout.logits != nullptr && !readout.rows.empty()) FM_TRY(model.settle_head());
  FM_ASSIGN(auto scratch, model.borrow_scratch(rows.tokens.size(), rows.longest, stop));
  (*scratch).workspace->precision = parts[0].session->options().precision;
  Recording recording;
  FM_TRY(recording.begin(parts));

  const ThreadPool::Step step(*model.runtime()->pool());
  auto go_on = [&] { return stop.check(); };
  auto routed = [&](size_t layer, const Route& route, size_t) {
    for (size_t i = 0; i < parts.size(); i++) {
      Trace* trace = parts[i].session->trace().get();
      if (trace != nullptr) trace->record(layer, route, rows.first[i], parts[i].n);
    }
  };
  Status status = forward(model.model(), rows.batch(), readout, *scratch, {go_on, routed});
  if (status.code() == FINERMOE_ERROR_NOT_FINITE) {
    mark_parts_without_route(rows, (*scratch).route, model.config().router.n_experts_per_token(), status, parts);
  }
  FM_TRY(status);
  recording.commit();
  for (const StepPart& part : parts) part.session->computed(part.n);
  return {};
}

}  // namespace finermoe
