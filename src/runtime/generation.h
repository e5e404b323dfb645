// One request on a session: prompt in, tokens and text out, one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "format/generation_defaults.h"
#include "runtime/drafter.h"
#include "runtime/session.h"
#include "sampling/sampler.h"
#include "sampling/stop_strings.h"

namespace finermoe {

struct GenerationOptions {
  SamplingOptions sampling;
  size_t max_tokens = 0;  // 0: limited only by the context
  size_t min_tokens = 0;
  std::vector<int32_t> stop_tokens;
  std::vector<std::string> stop_strings;
  bool ignore_eos = false;
  size_t top_logprobs = 0;
  bool show_special = false;
  DraftOptions drafts;

  // Stop ids outside the vocabulary are ignored: what cannot be chosen cannot stop.
  static GenerationOptions from_defaults(const GenerationDefaults& defaults, uint64_t vocab_size);
  // Stop tokens that cannot be chosen yet after this many tokens.
  std::span<const int32_t> forbidden(size_t n_generated) const {
    return n_generated < min_tokens && !ignore_eos ? std::span(stop_tokens) : std::span<const int32_t>();
  }
  // TOKEN_OUT_OF_RANGE for a biased, banned or stop id outside a vocabulary.
  Status check_ids(uint64_t vocab_size) const;
};

enum class Finish : int32_t {
  none = FINERMOE_FINISH_NONE,
  stop_token = FINERMOE_FINISH_STOP_TOKEN,
  stop_string = FINERMOE_FINISH_STOP_STRING,
  max_tokens = FINERMOE_FINISH_MAX_TOKENS,
  context_full = FINERMOE_FINISH_CONTEXT_FULL,
  host = FINERMOE_FINISH_HOST,
  error = FINERMOE_FINISH_ERROR  // only in events: the generation can be retried
};

struct GenerationEvent {
  Finish finish = Finish::none;
  int32_t token = -1;
  float logprob = 0;
  std::string text;
  std::vector<int32_t> top_ids;
  std::vector<float> top_logprobs;
};

// The caller of every function must hold `use`, and where noted also the session's.
class Generation {
 public:
  // The prompt is appended to what the session holds. Every id is checked here; an error leaves the session as it was.
  // The caller holds the session's use.
  static Result<std::shared_ptr<Generation>> create(std::shared_ptr<Session> session, GenerationOptions options,
                                                    std::span<const int32_t> prompt);
  // The prompt is the whole session: the prefix of it that the session holds is kept, the rest is removed.
  static Result<std::shared_ptr<Generation>> create_from_start(std::shared_ptr<Session> session,
                                                               GenerationOptions options,
                                                               std::span<const int32_t> prompt);
  // Resumes a saved generation on a session that holds the same tokens. The caller holds the session's use.
  static Result<std::shared_ptr<Generation>> restore(std::shared_ptr<Session> session,
                                                     std::span<const std::byte> saved);

  UseState use;
  uint64_t tag = 0;

  // These acquire the session's use themselves.
  Result<std::vector<std::byte>> save() const;
  // Their error is failure() until one of them succeeds.
  Status prepare(const CancelFlag* cancel);
  // The event belongs to the generation and is valid until the next call.
  Result<const GenerationEvent*> next(const CancelFlag* cancel);
  // Tokens that the host chose.
  Status append(std::span<const int32_t> ids);
  // Another draft model, or none. The tokens stay the same.
  Status set_draft(std::shared_ptr<LoadedModel> model, size_t n_draft);

  // Ends it, if it has not ended, and returns held-back text.
  const GenerationEvent* end();
  // The event of a failure, after which it can be retried.
  const GenerationEvent* fail(Status why);

  // Whether the logits of the next token are computed, for what the session holds now.
  bool prepared() const { return finish_ == Finish::none && prepared_at_ == session_->revision(); }
  Finish finish() const { return finish_; }
  size_t n_prompt() const { return n_prompt_; }
  size_t n_kept() const { return n_kept_; }
  size_t n_generated() const { return n_generated_; }
  uint64_t n_drafted() const { return n_drafted_; }
  uint64_t n_accepted() const { return n_accepted_; }
  double prefill_seconds() const { return prefill_seconds_; }
  double decode_seconds() const { return decode_seconds_; }
  const Status& failure() const { return failure_; }
  // Ok while it can go on or has finished, otherwise what next() would return, as far as that is known.
  Status check() const;
  const std::shared_ptr<Session>& session() const { return session_; }

  // The model's logits for the next token, [vocab]; only while prepared, and after fetch_logits(), which computes them
  // if the device has chosen a token without them: from then on it does not.
  Status fetch_logits();
  std::span<const float> logits() const { return changed_.empty() ? model_logits() : std::span<const float>(changed_); }
  void set_logits(std::span<const float> logits) { changed_.assign(logits.begin(), logits.end()); }

  // For a step shared by several generations; the callers hold the session's use.
  // Ensures that at least one token is uncomputed; otherwise sets the generation aside and returns the reason.
  Status ready_session();
  // How a device may choose the next token, if it takes no more than the logits: empty if it may not; for a pass of
  // this generation alone, perhaps those behind it too, so that the host waits once for all. And among how many ids.
  std::vector<TokenChoice> device_choices(bool is_alone) const;
  uint64_t n_choosable() const { return n_choosable_; }
  // Takes the next token's logits from what an earlier pass computed ahead, if that is what the session holds now.
  bool adopt_ahead();
  // Drafts for the next pass of each, at most `limit` tokens: drafts(), which a pass over the only uncomputed token may
  // compute ahead; valid until the next call.
  static void draft(std::span<Generation* const> generations, size_t limit, const StopSignals& stop);
  std::span<const int32_t> drafts() const { return drafts_; }
  // Records the result of a pass: the time it took, and the logits of the last token and the drafts behind it, or what
  // the device has chosen for as many tokens as it was asked for, if everything is computed now. May be called for
  // several generations at once, from different threads.
  void computed(size_t n_tokens, double seconds, std::span<const float> logits, std::span<const ChosenToken> chosen);
  // The last pass was over tokens that are decoded, and so many drafts, alone: the pace of drafts follows from its
  // time.
  void decoded(size_t n_drafts, double seconds) {
    if (drafter_) drafter_->passed(n_drafts, seconds);
  }
  // What the session holds could not be computed, for reasons of its own: the generation waits until prepare() or
  // next() tries again, or the session holds something else.
  void set_aside(Status why) {
    failure_ = aside_ = std::move(why);
    aside_at_ = session_->revision();
  }
  Status report_prefill() const;

 private:
  // Pending output text.
  struct Text {
    Utf8Stream utf8;    // the beginning of a character
    std::string held;   // what may become part of a stop string
    std::string ready;  // what the next event's text begins with
  };
  struct State;  // what is saved (generation_file.cc)

  Generation() = default;
  // What creating and restoring share: everything but the session's content and the counts.
  static Result<std::shared_ptr<Generation>> make(std::shared_ptr<Session> session, GenerationOptions options);
  static Result<std::shared_ptr<Generation>> create_behind(std::shared_ptr<Session> session, size_t n_kept,
                                                           GenerationOptions options, std::span<const int32_t> prompt);
  std::span<const float> model_logits() const {
    const uint64_t vocab = session_->model()->config().vocab_size;
    return {logits_.data<float>() + row_ * vocab, vocab};
  }
  void prepared_with(size_t row);
  // What the device has chosen of that row; null if its logits are there instead.
  const ChosenToken* chosen() const { return row_ < chosen_.size() ? &chosen_[row_] : nullptr; }
  Status set_drafts(DraftOptions drafts);
  size_t most_tokens_left() const;
  size_t most_drafts_now() const;
  Status compute_ahead(std::span<const TokenChoice> choices, const StopSignals& stop);
  Status compute(const CancelFlag* cancel, bool may_choose);
  Status choose_token();
  void hold(std::span<const int32_t> ids);
  Status choose_into(GenerationEvent& event);
  void put_text(int32_t token, size_t n_generated, Text& text, std::string& out, Finish& finish) const;
  void flush_text(size_t n_generated, Text& text, std::string& out, Finish& finish) const;
  Status check_goes_on() const;
  template <class Call>
  Status remembered(Call&& call);

  std::shared_ptr<Session> session_;
  std::shared_ptr<const Tokenizer> tokenizer_;  // null for a model without one: events carry no text
  GenerationOptions options_;
  std::optional<Sampler> sampler_;
  std::optional<StopStrings> stop_strings_;
  Text text_;

  Buffer logits_;                   // [1 + the most drafts, vocab]
  size_t row_ = 0;                  // of the next token
  std::optional<Drafter> drafter_;  // if there are drafts
  std::span<const int32_t> drafts_;
  uint64_t ahead_step_ = 0;  // the session's step that computed the rows behind it
  uint64_t n_drafted_ = 0, n_accepted_ = 0;
  std::optional<LogProbabilities> own_;  // of that row, once prepared with it
  std::vector<ChosenToken> chosen_;      // by the device, for the rows that were computed without them
  size_t n_before_choices_ = 0;          // tokens generated before the first of these
  size_t n_to_choose_ = 1;               // for how many tokens it is asked next
  uint64_t n_choosable_ = 0;             // ids that are tokens, if those are the first; otherwise 0
  bool reads_logits_ = false;            // the host has asked for them
  std::vector<float> changed_;           // [vocab] the host's replacement, or empty
  uint64_t prepared_at_ = 0;             // the session's revision that the logits belong to
  uint64_t aside_at_ = 0;                // the session's revision that could not be computed
  size_t n_to_prefill_ = 0;              // uncomputed tokens after some were last appended
  Status aside_, failure_;
  Finish finish_ = Finish::none;
  size_t n_prompt_ = 0, n_kept_ = 0, n_generated_ = 0;
  double prefill_seconds_ = 0, decode_seconds_ = 0;
  GenerationEvent event_;
};

}  // namespace finermoe
