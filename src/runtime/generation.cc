#include "runtime/generation.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "runtime/step.h"

namespace finermoe {
namespace {

bool is_in_vocabulary(int32_t id, uint64_t vocab_size) { return id >= 0 && static_cast<uint64_t>(id) < vocab_size; }

}  // namespace

GenerationOptions GenerationOptions::from_defaults(const GenerationDefaults& defaults, uint64_t vocab_size) {
  GenerationOptions options;
  std::copy_if(defaults.stop_ids.begin(), defaults.stop_ids.end(), std::back_inserter(options.stop_tokens),
               [&](int32_t id) { return is_in_vocabulary(id, vocab_size); });
  options.max_tokens = defaults.max_new_tokens;
  options.min_tokens = defaults.min_new_tokens;
  options.sampling.repetition_penalty = defaults.repetition_penalty;
  if (defaults.do_sample) {
    options.sampling.temperature = defaults.temperature;
    options.sampling.top_k = defaults.top_k;
    options.sampling.top_p = defaults.top_p;
    options.sampling.min_p = defaults.min_p;
    options.sampling.typical_p = defaults.typical_p;
  }
  return options;
}

Status GenerationOptions::check_ids(uint64_t vocab_size) const {
  const auto check = [&](int32_t id, std::string_view what) -> Status {
    if (is_in_vocabulary(id, vocab_size)) return {};
    return Status(
        FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
        cat("token id ", id, ", ", what, " of the options, is not in the session's vocabulary of ", vocab_size),
        cat("0 to ", vocab_size - 1), cat(id));
  };
  for (const auto& [id, bias] : sampling.logit_bias) {
    FM_TRY(check(id, bias == -INFINITY ? "a banned token" : "a biased token"));
  }
  for (int32_t id : stop_tokens) FM_TRY(check(id, "a stop token"));
  return {};
}

Result<std::shared_ptr<Generation>> Generation::create(std::shared_ptr<Session> session, GenerationOptions options,
                                                       std::vector<int32_t> prompt) {
  const size_t length = session->length();
  return create_behind(std::move(session), length, std::move(options), std::move(prompt));
}

Result<std::shared_ptr<Generation>> Generation::create_from_start(std::shared_ptr<Session> session,
                                                                  GenerationOptions options,
                                                                  std::vector<int32_t> prompt) {
  const std::vector<int32_t>& held = session->tokens();
  const size_t n = std::min(held.size(), prompt.empty() ? 0 : prompt.size() - 1);  // one token at least is computed
  const size_t common = static_cast<size_t>(
      std::mismatch(held.begin(), held.begin() + static_cast<ptrdiff_t>(n), prompt.begin()).first - held.begin());
  if (prompt.size() > session->capacity()) {
    return Status(
        FINERMOE_ERROR_CONTEXT_LENGTH,
        cat("the prompt of ", prompt.size(), " tokens is longer than the session's context of ", session->capacity()),
        cat("at most ", session->capacity()), cat(prompt.size()));
  }
  prompt.erase(prompt.begin(), prompt.begin() + static_cast<ptrdiff_t>(common));
  return create_behind(std::move(session), common, std::move(options), std::move(prompt));
}

Result<std::shared_ptr<Generation>> Generation::create_behind(std::shared_ptr<Session> session, size_t n_kept,
                                                              GenerationOptions options, std::vector<int32_t> prompt) {
  LoadedModel& model = *session->model();
  const uint64_t vocab_size = model.config().vocab_size;
  const size_t n_prompt = n_kept + prompt.size();
  if (n_prompt == 0) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "nothing to continue from: prompt and session are both empty",
                  "at least one token", "none");
  }
  if (prompt.empty()) prompt.push_back(session->tokens()[--n_kept]);  // computed again, for its logits
  FM_TRY(session->check_ids(prompt, n_kept));
  FM_TRY(options.check_ids(vocab_size));
  std::shared_ptr<Generation> generation(new Generation);
  if (options.stop_strings.empty()) {
    generation->tokenizer_ = model.usable_tokenizer();
  } else {
    FM_ASSIGN(generation->tokenizer_, model.tokenizer());
  }
  FM_ASSIGN(generation->logits_, Buffer::allocate(model.runtime()->account(), vocab_size * sizeof(float), "logits"));
  generation->sampler_.emplace(options.sampling, model.padding_ids());
  generation->stop_strings_.emplace(options.stop_strings);
  generation->sampler_->saw_prompt(std::span(session->tokens()).first(n_kept));
  generation->sampler_->saw_prompt(prompt);
  generation->n_prompt_ = n_prompt;
  generation->pending_ = std::move(prompt);
  generation->options_ = std::move(options);
  if (n_kept < session->length()) FM_TRY(session->truncate(n_kept));
  generation->session_ = std::move(session);
  return generation;
}

Status Generation::prepare(const CancelFlag* cancel) {
  const size_t total = pending_.size();
  aside_ = FINERMOE_OK;
  while (!prepared_ && finish_ == Finish::none) {
    Use session_use(session_->use, "session");
    FM_TRY(session_use.check());
    const Status fits = session_->check_ids(pending_, session_->length());
    fits_ = fits.code();
    FM_TRY(fits);
    StopSignals stop(cancel);
    stop.watch(session_->model()->closed, "model");
    stop.watch(session_->use.closed, "session");
    stop.watch(use.closed, "generation");
    const size_t n = std::min(pending_.size(), session_->options().chunk);
    const size_t last = n - 1;
    const bool all = n == pending_.size();
    StepPart part{session_.get(), std::span(pending_).first(n), std::span(&last, all ? 1 : 0)};
    const Status status = run_step(*session_->model(), {&part, 1}, logits_.data<float>(), stop);
    if (part.status != FINERMOE_ERROR_BUSY) set_aside(part.status);
    FM_TRY(status);
    computed(n, all ? model_logits() : std::span<const float>());
    if (total > 1) FM_TRY(session_->options().progress.report("prefill", total - pending_.size(), total));
  }
  return {};
}

void Generation::computed(size_t n_tokens, std::span<const float> last_logits) {
  pending_.erase(pending_.begin(), pending_.begin() + static_cast<ptrdiff_t>(n_tokens));
  if (!pending_.empty()) return;
  if (last_logits.data() != logits_.data<float>())
    std::copy(last_logits.begin(), last_logits.end(), logits_.data<float>());
  changed_.clear();
  own_.emplace(model_logits());
  prepared_ = true;
}

Code Generation::status() const {
  if (finish_ != Finish::none) return FINERMOE_OK;
  if (session_->use.closed.load(std::memory_order_relaxed) ||
      session_->model()->closed.load(std::memory_order_relaxed)) {
    return FINERMOE_ERROR_CLOSED;
  }
  if (aside_ != FINERMOE_OK) return aside_;
  if (prepared_) return changed_.empty() && !own_->are_finite() ? FINERMOE_ERROR_NOT_FINITE : FINERMOE_OK;
  return fits_;
}

Code Generation::look() {
  if (!prepared_) fits_ = session_->check_ids(pending_, session_->length()).code();
  return status();
}

Result<const GenerationEvent*> Generation::next(const CancelFlag* cancel) {
  if (finish_ == Finish::none) {
    FM_TRY(prepare(cancel));
    FM_TRY(choose_token());
  } else {
    event_ = GenerationEvent{};
  }
  event_.finish = finish_;
  return &event_;
}

Status Generation::choose_token() {
  if (changed_.empty() && !own_->are_finite()) {
    return Status(FINERMOE_ERROR_NOT_FINITE, "the model's logits are not finite: no token can be chosen",
                  "finite logits", "NaN or infinity");
  }
  FM_ASSIGN(const int32_t token, sampler_->choose(logits(), options_.forbidden(n_generated_)));

  event_ = GenerationEvent{};
  event_.token = token;
  event_.logprob = own_->of(token);
  if (options_.top_logprobs != 0) event_.top_ids = own_->top(options_.top_logprobs);
  for (int32_t id : event_.top_ids) event_.top_logprobs.push_back(own_->of(id));

  sampler_->saw_generated(token);
  n_generated_++;
  prepared_ = false;
  changed_.clear();
  pending_.assign(1, token);

  const auto& stops = options_.stop_tokens;
  const bool is_stop = !options_.ignore_eos && std::find(stops.begin(), stops.end(), token) != stops.end();
  put_text(token, is_stop);
  if (finish_ == Finish::none && n_generated_ == options_.max_tokens) finish_ = Finish::max_tokens;
  if (finish_ == Finish::none && session_->length() >= session_->capacity()) finish_ = Finish::context_full;
  if (finish_ != Finish::none && finish_ != Finish::stop_string) {
    std::string rest;
    utf8_.flush(rest);
    if (stop_strings_->push(rest, n_generated_ >= options_.min_tokens, event_.text)) {
      finish_ = Finish::stop_string;
    } else {
      stop_strings_->flush(event_.text);
    }
  }
  return {};
}

// The token's text, as far as it is complete and safe; decides whether a stop has come.
void Generation::put_text(int32_t token, bool is_stop) {
  if (is_stop) {
    finish_ = Finish::stop_token;
    return;
  }
  if (!tokenizer_) return;
  if (tokenizer_->kind(token) == TokenKind::special && !options_.show_special) return;
  std::string complete;
  utf8_.push(tokenizer_->bytes(token), complete);
  if (stop_strings_->push(complete, n_generated_ >= options_.min_tokens, event_.text)) finish_ = Finish::stop_string;
}

}  // namespace finermoe
