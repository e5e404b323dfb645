// Proposes the tokens that may come next in a request's text, and is told which were chosen: from the text itself, or
// by a draft model.
#pragma once

#include <memory>
#include <optional>
#include <span>

#include "runtime/lookup.h"
#include "runtime/model_draft.h"

namespace finermoe {

struct DraftOptions {
  size_t n_lookup = 0;                 // looked up in the session's text for a pass, at most
  std::shared_ptr<LoadedModel> model;  // that drafts, or null
  size_t n_model = 0;                  // by it, for a pass, at most
  bool whatever_it_costs = false;      // as many by it as that for every pass: to measure how many are right
  void set_model(std::shared_ptr<LoadedModel> by, size_t n) {
    model = n != 0 ? std::move(by) : nullptr;
    n_model = n;
  }
  size_t most() const { return std::max(n_lookup, model ? n_model : 0); }
  DraftOptions at_most(size_t n) const {
    return {std::min(n_lookup, n), model, std::min(n_model, n), whatever_it_costs};
  }
};

class Drafter {
 public:
  // never: ids that the request cannot choose
  static Result<Drafter> make(const DraftOptions& options, const Session& session, const SamplingOptions& sampling,
                              const std::vector<int32_t>& never);

  // Drafts for the next passes of several requests; `drafts` is the result, valid until the next call. The only token
  // that is not computed in each session is its last one.
  struct Task {
    Drafter* drafter;
    DraftRequest request;
    std::span<const int32_t> drafts = {};
  };
  static void draft(std::span<Task> tasks, const StopSignals& stop);

  // The text has grown by tokens at its end, from one revision to the next.
  void grew(uint64_t from, uint64_t to) {
    if (lookup_) lookup_->grew(from, to);
  }
  // A token was chosen: the first behind the text of the last drafts, then the next one, and so on.
  void chose(int32_t token) {
    if (lookup_) lookup_->chose(token);
    if (model_) model_->chose(token);
  }
  // A pass took so long, over a token and these drafts behind it.
  void passed(size_t n_drafts, double seconds) { pace_.passed(n_drafts, seconds); }

 private:
  Drafter() = default;
  bool prefers_lookup(size_t n_found, size_t n_wanted) const;

  std::optional<Lookup> lookup_;
  std::optional<ModelDraft> model_;
  DraftPace pace_;
};

}  // namespace finermoe
