#include "runtime/step.h"

#include <algorithm>
#include <deque>

namespace finermoe {
namespace {

// The parts, laid out as one ragged batch.
struct Rows {
  std::vector<int32_t> tokens;
  std::vector<uint32_t> positions, sessions;
  std::vector<KvCache*> caches;
  std::vector<size_t> read_out;
  std::vector<size_t> first;  // [parts] first row of each
  uint64_t longest = 0;       // capacity of the longest session
  bool have_drafts = false;

  explicit Rows(std::span<StepPart> parts) {
    for (const StepPart& part : parts) {
      const size_t begin = tokens.size();
      first.push_back(begin);
      for (size_t i = 0; i < part.n_rows(); i++) {
        positions.push_back(static_cast<uint32_t>(part.session->n_computed() + i));
        sessions.push_back(static_cast<uint32_t>(caches.size()));
      }
      const std::span<const int32_t> of_part = part.session->uncomputed().first(part.n);
      tokens.insert(tokens.end(), of_part.begin(), of_part.end());
      tokens.insert(tokens.end(), part.drafts.begin(), part.drafts.end());
      have_drafts = have_drafts || !part.drafts.empty();
      for (size_t row : part.rows) read_out.push_back(begin + row);
      caches.push_back(&part.session->cache());
      longest = std::max(longest, part.session->capacity());
    }
  }
  RaggedBatch batch() const { return {tokens, positions, sessions, caches, have_drafts}; }
};

// The traces of the participating sessions; rolled back unless committed.
class Recording {
 public:
  Recording(const LoadedModel& model, std::span<StepPart> parts) : model_(model), parts_(parts) {}
  Recording(const Recording&) = delete;
  ~Recording() {
    for (Trace* trace : begun_) trace->roll_back();
  }

  Status begin(size_t n_rows) {
    Status first_error;
    begun_.reserve(parts_.size());
    for (StepPart& part : parts_) {
      Trace* trace = part.session->trace().get();
      if (trace == nullptr) continue;
      Status status = uses_.emplace_back(trace->use, "trace").check();
      if (status.ok()) status = trace->begin(part.session->n_computed(), part.n);
      if (status.ok()) begun_.push_back(trace);
      part.status = status;
      if (first_error.ok()) first_error = std::move(status);
    }
    FM_TRY(std::move(first_error));
    return begun_.empty() ? Status() : make_room_for_routes(n_rows);
  }
  std::span<const HostRoute> routes() const { return routes_; }

  // Records what the routers decided in the pass. `first`: the parts' first rows.
  void commit(std::span<const size_t> first) {
    for (size_t i = 0; i < parts_.size() && !begun_.empty(); i++) {
      Trace* trace = parts_[i].session->trace().get();
      if (trace == nullptr) continue;
      for (size_t layer = 0; layer < routes_.size(); layer++) {
        trace->record(layer, routes_[layer], first[i], parts_[i].n);
      }
    }
    for (Trace* trace : begun_) trace->commit();
    begun_.clear();
  }

 private:
  Status make_room_for_routes(size_t n_rows) {
    const Config& config = model_.config();
    const uint64_t n_logits = n_rows * config.router.n_experts(), n_groups = n_rows * config.router.granularity_output;
    const uint64_t n_choices = n_rows * config.router.n_experts_per_token();
    const uint64_t of_layer = n_logits + 2 * n_choices + n_groups;
    FM_ASSIGN(memory_, Buffer::allocate(model_.runtime()->account(), config.n_moe_layers() * of_layer * sizeof(float),
                                        "the routes of a traced step"));
    for (size_t layer = 0; layer < config.n_moe_layers(); layer++) {
      float* const logits = memory_.data<float>() + layer * of_layer;
      float* const weights = logits + n_logits;
      auto* const experts = reinterpret_cast<int32_t*>(weights + n_choices);
      routes_.push_back({.logits = logits, .experts = experts, .weights = weights, .groups = experts + n_choices});
    }
    return {};
  }

  const LoadedModel& model_;
  const std::span<StepPart> parts_;
  std::deque<ExclusiveUse> uses_;
  std::vector<Trace*> begun_;
  Buffer memory_;
  std::vector<HostRoute> routes_;  // of each MoE layer, if anything is traced
};

// The chosen tokens that a pass has been computed over, where several follow each other.
std::vector<int32_t> followed_choices(const Readout& readout) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < readout.n_passes() && readout.chosen[i + 1].id >= 0; i++) {
    ids.push_back(readout.chosen[i].id);
  }
  return ids;
}

}  // namespace

Status run_step(LoadedModel& model, std::span<StepPart> parts, Readout readout, const StopSignals& stop) {
  FM_TRY(stop.check());
  FM_TRY(model.model().checkpoint->check_unchanged());
  const Rows rows(parts);
  for (const StepPart& part : parts) part.session->begin_step(part.drafts.size() + readout.n_passes() - 1);
  readout.rows = rows.read_out;
  if (readout.logits != nullptr && !readout.rows.empty()) FM_TRY(model.settle_head());
  FM_ASSIGN(auto scratch, model.borrow_scratch(rows.tokens.size(), rows.longest, stop));
  Recording recording(model, parts);
  FM_TRY(recording.begin(rows.tokens.size()));

  const auto go_on = [&] { return stop.check(); };
  Status status = forward(model.model(), rows.batch(), parts[0].session->options().precision, readout, *scratch,
                          {go_on, recording.routes()});
  if (status.code() == FINERMOE_ERROR_NOT_FINITE) {
    for (size_t i = 0; i < parts.size(); i++) {
      for (size_t row = rows.first[i]; row < rows.first[i] + parts[i].n_rows(); row++) {
        if (parts[i].status.ok()) parts[i].status = (*scratch).row_error(row);
      }
    }
  }
  FM_TRY(std::move(status));
  recording.commit(rows.first);
  const std::vector<int32_t> followed = followed_choices(readout);
  for (const StepPart& part : parts) part.session->computed(part.n, followed.empty() ? part.drafts : followed);
  return {};
}

}  // namespace finermoe
