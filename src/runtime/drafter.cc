#include "runtime/drafter.h"

namespace finermoe {

Result<Drafter> Drafter::make(const DraftOptions& options, const Session& session, const SamplingOptions& sampling,
                              const std::vector<int32_t>& never) {
  Drafter drafter;
  if (options.n_lookup != 0) {
    FM_ASSIGN(drafter.lookup_,
              Lookup::make(session.model()->runtime()->account(), session.capacity(), options.n_lookup));
  }
  if (options.model && options.n_model != 0) {
    drafter.model_.emplace(options.model, options.n_model, sampling, never, options.whatever_it_costs);
  }
  return drafter;
}

// Of the two, the one that promises more tokens for its time; as long as that is not known, the lookup, which costs
// nothing.
bool Drafter::prefers_lookup(size_t n_found, size_t n_wanted) const {
  if (n_found == 0) return false;
  if (!pace_.is_known()) return true;
  return pace_.rate(n_found, lookup_->hit_rate(), false) >= pace_.rate(n_wanted, model_->hit_rate(), true);
}

void Drafter::draft(std::span<Task> tasks, const StopSignals& stop) {
  std::vector<ModelDraft::Task> by_model;
  for (Task& task : tasks) {
    Drafter& drafter = *task.drafter;
    const DraftRequest& request = task.request;
    if (drafter.lookup_) {
      task.drafts = drafter.lookup_->draft(request.session->tokens(), request.session->revision(), request.limit);
    }
    if (!drafter.model_) continue;
    const size_t n = drafter.model_->n_wanted(request, drafter.pace_);
    if (n == 0 || drafter.prefers_lookup(task.drafts.size(), n)) continue;
    by_model.push_back({&*drafter.model_, &request, n, &drafter.pace_});
  }
  if (by_model.empty()) return;
  ModelDraft::draft(by_model, stop);
  for (Task& task : tasks) {
    const auto& model = task.drafter->model_;
    if (model && !model->drafts().empty()) task.drafts = model->drafts();
  }
}

}  // namespace finermoe
