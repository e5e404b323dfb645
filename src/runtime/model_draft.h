// Drafts of the next tokens by another model of the same vocabulary, which reads the text along.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "runtime/draft_pace.h"
#include "runtime/guess.h"
#include "runtime/session.h"
#include "sampling/sampler.h"

namespace finermoe {

// What the drafts for a request's next pass depend on. The caller holds the session's use.
struct DraftRequest {
  Session* session;               // whose text they go on with
  const Sampler* sampler;         // that will choose the tokens
  std::span<const int32_t> ends;  // tokens with which the text ends
  size_t n_before_end = 0;        // so many tokens are chosen before one of these can be
  size_t n_generated = 0;         // tokens so far
  size_t limit = 0;               // of tokens
};

// INVALID_ARGUMENT unless the ids of both models stand for the same tokens.
Status check_same_vocabulary(LoadedModel& model, LoadedModel& draft_model);

class ModelDraft {
 public:
  // never: ids that cannot be chosen. whatever_it_costs: n_draft tokens for every pass.
  ModelDraft(std::shared_ptr<LoadedModel> model, size_t n_draft, SamplingOptions sampling, std::vector<int32_t> never,
             bool whatever_it_costs);

  // How many tokens to draft for the next pass: as many as pay.
  size_t n_wanted(const DraftRequest& request, const DraftPace& pace);

  struct Task {
    ModelDraft* by;
    const DraftRequest* request;
    size_t n_left;    // tokens that are still wanted
    DraftPace* pace;  // is told what a pass took
  };
  // Drafts for several requests, which share the passes over one model. The text that its session does not hold yet is
  // read first, a chunk of it in each call. Nothing is an error: drafts() may have fewer tokens, and none for a while.
  static void draft(std::span<Task> tasks, const StopSignals& stop);
  std::span<const int32_t> drafts() const { return guess_.tokens(); }

  // A token was chosen: the first behind the text of the last drafts, then the next one, and so on.
  void chose(int32_t token);
  // Of drafted tokens whose predecessors were right, how many are right lately.
  double hit_rate() const { return guess_.rate(); }

 private:
  static void draft_together(std::span<Task> tasks, const StopSignals& stop);
  static void pass(std::span<Task* const> tasks, const StopSignals& stop);
  bool is_worth_reading(const DraftRequest& request) const;
  Status follow(Task& task, const StopSignals& stop);
  Status make_room_for_logits(size_t n_rows);
  // With tokens that are never chosen up to the vocabulary of the request's model.
  Result<std::span<const float>> pad(std::span<const float> logits, uint64_t vocab);
  void choose_next(Task& task, std::span<const float> logits);
  void rest(double n_tokens = 0);

  std::shared_ptr<LoadedModel> model_;
  size_t n_draft_;
  bool whatever_it_costs_;
  Sampler sampler_;  // goes on from the state of the request's, which stays as it is
  Buffer logits_;    // [requests that share a pass, vocab]
  Buffer padded_;    // [vocab of the request's model], if it has more rows without a token
  Guess guess_;
  bool is_on_trial_ = true;  // the next drafts are made whether they pay or not
  size_t n_passes_ = 0;      // for which drafts were possible
  size_t n_to_rest_ = 0;     // tokens until the next trial
  size_t last_rest_ = 0;     // in tokens; 0: the last drafts paid
  double spent_ = 0;         // seconds on drafts and on reading for them, since they paid or it rested
};

}  // namespace finermoe
