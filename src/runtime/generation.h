// One request on a session: prompt in, tokens and text out, one at a time.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/sampler.h"
#include "runtime/session.h"
#include "runtime/stop_strings.h"

namespace finermoe {

struct GenerationOptions {
  SamplingOptions sampling;
  size_t max_tokens = 0;  // 0: no limit but the context's
  size_t min_tokens = 0;
  std::vector<int32_t> stop_tokens;
  std::vector<std::string> stop_strings;
  bool ignore_eos = false;
  size_t top_logprobs = 0;
  bool show_special = false;

  // Stop ids outside the vocabulary are left aside: what cannot be chosen cannot stop.
  static GenerationOptions from_defaults(const GenerationDefaults& defaults, uint64_t vocab_size);
  // Stop tokens that cannot be chosen yet, after this many.
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
  context_full = FINERMOE_FINISH_CONTEXT_FULL
};

struct GenerationEvent {
  Finish finish = Finish::none;
  int32_t token = -1;
  float logprob = 0;
  std::string text;
  std::vector<int32_t> top_ids;
  std::vector<float> top_logprobs;
};

// The caller of every function holds `use`; those that compute take the session's themselves.
class Generation {
 public:
  // The prompt is appended to what the session holds. The caller holds the session's use. Every id is checked here; an
  // error leaves the session as it was.
  static Result<std::shared_ptr<Generation>> create(std::shared_ptr<Session> session, GenerationOptions options,
                                                    std::vector<int32_t> prompt);
  // The prompt stands for the whole session: what the session holds of it is kept, the rest is forgotten.
  static Result<std::shared_ptr<Generation>> create_from_start(std::shared_ptr<Session> session,
                                                               GenerationOptions options, std::vector<int32_t> prompt);

  UseState use;

  Status prepare(const CancelFlag* cancel);
  // The event is the generation's until the next call.
  Result<const GenerationEvent*> next(const CancelFlag* cancel);

  bool prepared() const { return prepared_; }
  Finish finish() const { return finish_; }
  size_t n_prompt() const { return n_prompt_; }
  size_t n_generated() const { return n_generated_; }
  // FINERMOE_OK while it can go on or has finished, else the code that next() would answer, as far as that is known.
  Code status() const;
  // The same after a look at the session. The caller holds the session's use, too.
  Code look();
  const std::shared_ptr<Session>& session() const { return session_; }

  // The model's logits for the next token, [vocab]; only while prepared.
  std::span<const float> logits() const { return changed_.empty() ? model_logits() : std::span<const float>(changed_); }
  void set_logits(std::span<const float> logits) { changed_.assign(logits.begin(), logits.end()); }

  // For a step that several generations share: what is still to be computed, and what came of it; the latter may be
  // told to several of them at once, by different threads.
  std::span<const int32_t> pending() const { return pending_; }
  void computed(size_t n_tokens, std::span<const float> last_logits);
  // It could not be computed, and not because of its company: it waits for prepare() or next() to try again.
  void set_aside(Code code) { aside_ = code; }

 private:
  Generation() = default;
  // The session's first n_kept tokens and the prompt behind them.
  static Result<std::shared_ptr<Generation>> create_behind(std::shared_ptr<Session> session, size_t n_kept,
                                                           GenerationOptions options, std::vector<int32_t> prompt);
  std::span<const float> model_logits() const {
    return {logits_.data<float>(), session_->model()->config().vocab_size};
  }
  Status choose_token();
  void put_text(int32_t token, bool is_stop);

  std::shared_ptr<Session> session_;
  std::shared_ptr<const Tokenizer> tokenizer_;  // null for a model without one: events carry no text
  GenerationOptions options_;
  std::optional<Sampler> sampler_;
  std::optional<StopStrings> stop_strings_;
  Utf8Stream utf8_;

  std::vector<int32_t> pending_;         // tokens to append before the next one can be chosen
  Buffer logits_;                        // [vocab]
  std::optional<LogProbabilities> own_;  // of these, while prepared
  std::vector<float> changed_;           // [vocab] what the host put in their place, or empty
  bool prepared_ = false;
  Code aside_ = FINERMOE_OK;
  Code fits_ = FINERMOE_OK;  // whether the session could take what is pending, when last looked at
  Finish finish_ = Finish::none;
  size_t n_prompt_ = 0, n_generated_ = 0;
  GenerationEvent event_;
};

}  // namespace finermoe
