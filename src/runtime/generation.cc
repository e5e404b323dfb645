#include "runtime/generation.h"

#include <algorithm>

#include "base/stopwatch.h"
#include "runtime/step.h"

namespace finermoe {

Result<std::shared_ptr<Generation>> Generation::make(std::shared_ptr<Session> session, GenerationOptions options) {
  LoadedModel& model = *session->model();
  const uint64_t vocab_size = model.config().vocab_size;
  FM_TRY(options.check_ids(vocab_size));
  std::shared_ptr<Generation> generation(new Generation);
  if (options.stop_strings.empty()) {
    FM_ASSIGN(generation->tokenizer_, model.usable_tokenizer());
  } else {
    FM_ASSIGN(generation->tokenizer_, model.tokenizer());
  }
  FM_ASSIGN(generation->logits_, Buffer::allocate(model.runtime()->account(), vocab_size * sizeof(float), "logits"));
  FM_ASSIGN(auto padding, model.padding_ids());
  const uint64_t n_tokens = vocab_size - padding.size();
  const bool are_first = padding.empty() || static_cast<uint64_t>(padding.front()) == n_tokens;  // they ascend
  generation->n_choosable_ = are_first ? n_tokens : 0;
  generation->sampler_.emplace(options.sampling, std::move(padding));
  generation->stop_strings_.emplace(options.stop_strings);
  generation->options_ = std::move(options);
  generation->chosen_.reserve(model.most_passes());
  generation->session_ = std::move(session);
  FM_TRY(generation->set_drafts(generation->options_.drafts));
  return generation;
}

// All or nothing. No more tokens are drafted than a pass of the model's devices computes.
Status Generation::set_drafts(DraftOptions drafts) {
  LoadedModel& model = *session_->model();
  if (drafts.model) {
    FM_TRY(drafts.model->runtime()->check_process());
    FM_TRY(check_same_vocabulary(model, *drafts.model));
  }
  const DraftOptions possible = drafts.at_most(model.most_rows_as_alone() - 1);
  std::optional<Drafter> drafter;
  if (possible.most() != 0) {
    FM_ASSIGN(drafter, Drafter::make(possible, *session_, options_.sampling, sampler_->never()));
  }
  const uint64_t bytes = (1 + possible.most()) * model.config().vocab_size * sizeof(float);
  if (logits_.size() < bytes) {
    FM_TRY(logits_.resize(bytes, "logits"));
    if (own_) own_.emplace(model_logits());  // they have moved
  }
  drafter_ = std::move(drafter);
  drafts_ = {};
  options_.drafts = std::move(drafts);
  const auto& follower = session_->follower();
  if (follower && follower->model() != options_.drafts.model) session_->set_follower(nullptr);
  return {};
}

Status Generation::set_draft(std::shared_ptr<LoadedModel> model, size_t n_draft) {
  const ExclusiveUse session_use(session_->use, "session");
  FM_TRY(session_use.check());
  FM_TRY(check_goes_on());
  DraftOptions drafts = options_.drafts;
  drafts.set_model(std::move(model), n_draft);
  return set_drafts(std::move(drafts));
}

Result<std::shared_ptr<Generation>> Generation::create(std::shared_ptr<Session> session, GenerationOptions options,
                                                       std::span<const int32_t> prompt) {
  const size_t length = session->length();
  return create_behind(std::move(session), length, std::move(options), prompt);
}

Result<std::shared_ptr<Generation>> Generation::create_from_start(std::shared_ptr<Session> session,
                                                                  GenerationOptions options,
                                                                  std::span<const int32_t> prompt) {
  if (prompt.size() > session->capacity()) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH,
                  format_text("the prompt of ", prompt.size(), " tokens is longer than the session's context of ",
                              session->capacity()),
                  format_text("at most ", session->capacity()), format_text(prompt.size()));
  }
  const size_t n_kept = session->common_prefix(prompt);
  return create_behind(std::move(session), n_kept, std::move(options), prompt.subspan(n_kept));
}

// Creates a generation on the session's first n_kept tokens followed by the prompt.
Result<std::shared_ptr<Generation>> Generation::create_behind(std::shared_ptr<Session> held, size_t n_kept,
                                                              GenerationOptions options,
                                                              std::span<const int32_t> prompt) {
  if (n_kept + prompt.size() == 0) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "nothing to continue from: prompt and session are both empty",
                  "at least one token", "none");
  }
  FM_TRY(held->check_ids(prompt, n_kept));
  FM_ASSIGN(auto generation, make(std::move(held), std::move(options)));
  Session& session = *generation->session_;
  generation->sampler_->saw_prompt(std::span(session.tokens()).first(n_kept));
  generation->sampler_->saw_prompt(prompt);
  generation->n_kept_ = n_kept;
  generation->n_prompt_ = n_kept + prompt.size();
  session.reserve(prompt.size());
  if (n_kept < session.length()) FM_TRY(session.truncate(n_kept));
  session.hold(prompt);
  generation->n_to_prefill_ = session.uncomputed().size();
  return generation;
}

// The result of a call that computes is kept for later queries.
template <class Call>
Status Generation::remembered(Call&& call) {
  try {
    Status status = call();
    failure_ = status;
    return status;
  } catch (const std::bad_alloc&) {
    failure_ = Status(FINERMOE_ERROR_OUT_OF_MEMORY, "out of memory");  // short enough to need none
    throw;
  }
}

Status Generation::prepare(const CancelFlag* cancel) {
  FM_TRY(check_goes_on());
  return remembered([&]() -> Status {
    const ExclusiveUse session_use(session_->use, "session");
    FM_TRY(session_use.check());
    return compute(cancel, false);
  });
}

Status Generation::fetch_logits() {
  if (!prepared() || chosen() == nullptr) return {};
  reads_logits_ = true;
  return remembered([&]() -> Status {
    const ExclusiveUse session_use(session_->use, "session");
    FM_TRY(session_use.check());
    prepared_at_ = 0;
    return compute(nullptr, false);
  });
}

std::vector<TokenChoice> Generation::device_choices(bool is_alone) const {
  const bool is_plain = sampler_->is_plain() && options_.top_logprobs == 0 && options_.forbidden(n_generated_).empty();
  if (reads_logits_ || n_choosable_ == 0 || !is_plain) return {};
  const bool may_follow = is_alone && !drafter_ && !session_->trace() && session_->uncomputed().size() == 1;
  const size_t most = std::min(session_->model()->most_passes(), most_tokens_left());
  const SamplingOptions& how = sampler_->options();
  std::vector<TokenChoice> choices(may_follow ? std::clamp<size_t>(n_to_choose_, 1, most) : 1,
                                   {how.temperature, how.top_k, how.top_p, how.min_p});
  Pcg32 random = sampler_->random();
  for (TokenChoice& choice : choices) choice.random = random.uniform();
  return choices;
}

// At least 1: the next token's logits can be asked for even if nothing may follow.
size_t Generation::most_tokens_left() const {
  const size_t n_fitting = session_->capacity() - std::min<size_t>(session_->capacity(), session_->length());
  const size_t n_wanted = options_.max_tokens == 0 ? n_fitting : options_.max_tokens - n_generated_;
  return std::max<size_t>(1, std::min(n_fitting, n_wanted));
}

Status Generation::check_goes_on() const {
  if (finish_ == Finish::none) return {};
  return Status(FINERMOE_ERROR_STATE, "the generation has finished: nothing follows it", "a generation that goes on",
                "a finished one");
}

Status Generation::ready_session() {
  if (session_->length() == 0) {
    set_aside(
        Status(FINERMOE_ERROR_STATE, "nothing to continue from: the session is empty", "at least one token", "none"));
    return aside_;
  }
  if (session_->uncomputed().empty()) session_->recompute_last();
  return {};
}

// Computes until the next token's logits are available. The session is held.
Status Generation::compute(const CancelFlag* cancel, bool may_choose) {
  aside_ = Status();
  if (prepared()) return {};
  FM_TRY(ready_session());
  StopSignals stop = session_->stop_signals(cancel);
  stop.watch(use.closed, "generation");
  FM_TRY(stop.check());
  if (adopt_ahead()) return {};
  if (may_choose) {
    Generation* const self = this;
    draft({&self, 1}, most_drafts, stop);
    if (!drafts_.empty()) {
      Status status = compute_ahead({}, stop);
      if (status.ok() || !stop.check().ok()) return status;
    }
  }
  const std::vector<TokenChoice> choices = may_choose ? device_choices(true) : std::vector<TokenChoice>();
  if (choices.size() > 1) {
    Status status = compute_ahead(choices, stop);
    if (status.ok() || !stop.check().ok()) return status;
  }
  const size_t n = session_->uncomputed().size(), last = n - 1;
  const Stopwatch watch;
  Status own_status;
  ChosenToken chosen;
  const Readout readout{.logits = logits_.data<float>(),
                        .choices = std::span(choices).first(std::min<size_t>(1, choices.size())),
                        .n_choosable = n_choosable_,
                        .chosen = &chosen};
  Status status = session_->compute({&last, 1}, readout, stop, &own_status);
  if (!own_status.ok() && own_status.code() != FINERMOE_ERROR_BUSY) set_aside(std::move(own_status));
  const uint64_t vocab = session_->model()->config().vocab_size;
  const double seconds = watch.seconds();
  computed(n, seconds, {logits_.data<float>(), status.ok() ? vocab : 0}, {&chosen, readout.choices.size()});
  if (status.ok() && n == 1) decoded(session_->ahead(ahead_step_).size(), seconds);
  return status;
}

// One pass over the uncomputed token and the drafts behind it, or one after the other over what the device chooses
// there. If it fails, nothing is computed.
Status Generation::compute_ahead(std::span<const TokenChoice> choices, const StopSignals& stop) {
  const Stopwatch watch;
  const std::span<const size_t> rows = std::span(rows_of_drafts).first(1 + drafts_.size());
  StepPart part{.session = session_.get(), .n = 1, .rows = rows, .drafts = drafts_};
  std::vector<ChosenToken> chosen(choices.size());
  const Readout readout{
      .logits = logits_.data<float>(), .choices = choices, .n_choosable = n_choosable_, .chosen = chosen.data()};
  Status status = run_step(*session_->model(), {&part, 1}, readout, stop);
  const uint64_t vocab = session_->model()->config().vocab_size;
  const double seconds = watch.seconds();
  computed(1, seconds, {logits_.data<float>(), status.ok() ? rows.size() * vocab : 0}, chosen);
  if (status.ok()) decoded(session_->ahead(ahead_step_).size(), seconds);
  return status;
}

// A token that the host appended may be the one that the device chose, but used no random number: then what follows was
// chosen with another one.
bool Generation::adopt_ahead() {
  if (!chosen_.empty() && n_generated_ != n_before_choices_ + row_ + 1) return false;
  if (!session_->adopt_ahead(ahead_step_)) return false;
  prepared_with(row_ + 1);
  return true;
}

// No more than can be chosen, and than the session's scratch has rows for.
size_t Generation::most_drafts_now() const {
  if (!drafter_ || session_->trace() || session_->uncomputed().size() != 1) return 0;
  const size_t n_left = session_->capacity() - session_->length();
  if (n_left == 0) return 0;
  const size_t n_fitting = std::min(n_left, session_->options().chunk) - 1;
  return options_.max_tokens == 0 ? n_fitting : std::min(n_fitting, options_.max_tokens - n_generated_ - 1);
}

void Generation::draft(std::span<Generation* const> generations, size_t limit, const StopSignals& stop) {
  const Stopwatch watch;
  std::vector<Drafter::Task> tasks;
  std::vector<Generation*> taking_part;
  for (Generation* generation : generations) {
    generation->drafts_ = {};
    const size_t most = std::min(limit, generation->most_drafts_now());
    if (most == 0) continue;
    const GenerationOptions& options = generation->options_;
    const std::span<const int32_t> ends =
        options.ignore_eos ? std::span<const int32_t>() : std::span(options.stop_tokens);
    const size_t n_before_end = options.min_tokens - std::min(options.min_tokens, generation->n_generated_);
    taking_part.push_back(generation);
    tasks.push_back({.drafter = &*generation->drafter_,
                     .request = {.session = generation->session_.get(),
                                 .sampler = &*generation->sampler_,
                                 .ends = ends,
                                 .n_before_end = n_before_end,
                                 .n_generated = generation->n_generated_,
                                 .limit = most}});
  }
  if (tasks.empty()) return;
  Drafter::draft(tasks, stop);
  const double seconds = watch.seconds();
  for (size_t i = 0; i < tasks.size(); i++) {
    taking_part[i]->drafts_ = tasks[i].drafts;
    taking_part[i]->decode_seconds_ += seconds;
  }
}

// The device is asked for twice as many tokens as long as it chooses all of them.
void Generation::computed(size_t n_tokens, double seconds, std::span<const float> logits,
                          std::span<const ChosenToken> chosen) {
  (n_tokens > 1 ? prefill_seconds_ : decode_seconds_) += seconds;
  n_to_choose_ = 1;
  if (logits.empty()) return;
  ahead_step_ = session_->step_index();
  const auto end = std::find_if(chosen.begin(), chosen.end(), [](const ChosenToken& token) { return token.id < 0; });
  chosen_.assign(chosen.begin(), end);
  n_before_choices_ = n_generated_;
  if (end == chosen.end() && !chosen.empty()) n_to_choose_ = 2 * chosen.size();
  if (chosen_.empty()) n_drafted_ += session_->ahead(ahead_step_).size();
  if (logits.data() != logits_.data<float>()) std::copy(logits.begin(), logits.end(), logits_.data<float>());
  prepared_with(0);
}

void Generation::prepared_with(size_t row) {
  prepared_at_ = session_->revision();
  row_ = row;
  changed_.clear();
  if (chosen() == nullptr) own_.emplace(model_logits());
}

Status Generation::report_prefill() const {
  if (n_to_prefill_ <= 1) return {};
  const size_t n_left = session_->uncomputed().size();
  return session_->options().progress.report("prefill", n_to_prefill_ - std::min(n_left, n_to_prefill_), n_to_prefill_);
}

Status Generation::check() const {
  if (finish_ != Finish::none) return {};
  FM_TRY(session_->stop_signals(nullptr).check());
  if (!aside_.ok() && aside_at_ == session_->revision()) return aside_;
  if (prepared() && chosen() == nullptr && changed_.empty() && !own_->are_finite()) {
    return Status(FINERMOE_ERROR_NOT_FINITE, "the model's logits are not finite: no token can be chosen",
                  "finite logits", "NaN or infinity");
  }
  return {};
}

Result<const GenerationEvent*> Generation::next(const CancelFlag* cancel) {
  if (finish_ != Finish::none) return end();
  Status status = remembered([&]() -> Status {
    const ExclusiveUse session_use(session_->use, "session");
    FM_TRY(session_use.check());
    FM_TRY(compute(cancel, true));
    const Stopwatch watch;
    Status chosen = choose_token();
    decode_seconds_ += watch.seconds();
    return chosen;
  });
  FM_TRY(std::move(status));
  return &event_;
}

Status Generation::append(std::span<const int32_t> ids) {
  const ExclusiveUse session_use(session_->use, "session");
  FM_TRY(session_use.check());
  FM_TRY(check_goes_on());
  FM_TRY(session_->check_ids(ids, session_->length()));
  if (ids.empty()) return {};
  Text text = text_;
  text.utf8.flush(text.held);
  text.ready += text.held;
  text.held.clear();
  session_->reserve(ids.size());
  sampler_->saw_prompt(ids);
  hold(ids);
  n_to_prefill_ = session_->uncomputed().size();
  text_ = std::move(text);
  return {};
}

void Generation::hold(std::span<const int32_t> ids) {
  const uint64_t before = session_->revision();
  session_->hold(ids);
  if (drafter_) drafter_->grew(before, session_->revision());
}

const GenerationEvent* Generation::end() {
  GenerationEvent event;
  Finish finish = finish_;
  Text text = text_;
  if (finish == Finish::none) {
    finish = Finish::host;
    flush_text(n_generated_, text, event.text, finish);
  }
  event.finish = finish;
  finish_ = finish;
  text_ = std::move(text);
  event_ = std::move(event);
  return &event_;
}

const GenerationEvent* Generation::fail(Status why) {
  failure_ = std::move(why);
  event_ = GenerationEvent{};
  event_.finish = Finish::error;
  return &event_;
}

// All or nothing: after an error, the next try chooses the same token.
Status Generation::choose_token() {
  GenerationEvent event;
  Text text = text_;
  std::swap(event.text, text.ready);
  Finish finish = Finish::none;
  if (session_->length() >= session_->capacity()) {
    finish = Finish::context_full;
    flush_text(n_generated_, text, event.text, finish);
  } else {
    FM_TRY(check());
    struct Rewind {
      Sampler* sampler;
      uint64_t state = sampler->random_state();
      ~Rewind() {
        if (sampler != nullptr) sampler->set_random_state(state);
      }
    } rewind{&*sampler_};
    FM_TRY(choose_into(event));
    const size_t n_generated = n_generated_ + 1;
    put_text(event.token, n_generated, text, event.text, finish);
    if (finish == Finish::none && n_generated == options_.max_tokens) finish = Finish::max_tokens;
    if (finish == Finish::none && session_->length() + 1 >= session_->capacity()) finish = Finish::context_full;
    if (finish != Finish::none) flush_text(n_generated, text, event.text, finish);

    sampler_->reserve();
    session_->reserve(1);
    rewind.sampler = nullptr;  // nothing can fail from here on
    sampler_->saw_generated(event.token);
    const std::span<const int32_t> ahead = session_->ahead(ahead_step_);
    n_accepted_ += chosen_.empty() && !ahead.empty() && ahead[0] == event.token;
    if (drafter_) drafter_->chose(event.token);
    hold({&event.token, 1});
    n_generated_ = n_generated;
    n_to_prefill_ = 0;
  }
  event.finish = finish_ = finish;
  text_ = std::move(text);
  event_ = std::move(event);
  return {};
}

// The token and its probability, from the logits or from what the device has chosen.
Status Generation::choose_into(GenerationEvent& event) {
  if (const ChosenToken* const by_device = chosen()) {
    sampler_->chose_elsewhere();
    event.token = by_device->id;
    event.logprob = LogProbabilities::of(by_device->logit, by_device->largest, by_device->sum);
    return {};
  }
  FM_ASSIGN(event.token, sampler_->choose(logits(), options_.forbidden(n_generated_)));
  event.logprob = own_->of(event.token);
  if (options_.top_logprobs != 0) event.top_ids = own_->top(options_.top_logprobs);
  for (int32_t id : event.top_ids) event.top_logprobs.push_back(own_->of(id));
  return {};
}

// Outputs the token's text, as far as it is complete and safe; decides whether a stop was reached.
void Generation::put_text(int32_t token, size_t n_generated, Text& text, std::string& out, Finish& finish) const {
  const auto& stops = options_.stop_tokens;
  if (!options_.ignore_eos && std::find(stops.begin(), stops.end(), token) != stops.end()) {
    finish = Finish::stop_token;
    return;
  }
  if (!tokenizer_) return;
  if (tokenizer_->kind(token) == TokenKind::special && !options_.show_special) return;
  std::string complete;
  text.utf8.push(tokenizer_->bytes(token), complete);
  if (stop_strings_->push(text.held, complete, n_generated >= options_.min_tokens, out)) finish = Finish::stop_string;
}

// At the end: nothing is held back any more, unless flushing a character completes a stop string.
void Generation::flush_text(size_t n_generated, Text& text, std::string& out, Finish& finish) const {
  out += text.ready;
  text.ready.clear();
  if (finish == Finish::stop_string) return;
  std::string rest;
  text.utf8.flush(rest);
  if (stop_strings_->push(text.held, rest, n_generated >= options_.min_tokens, out)) {
    finish = Finish::stop_string;
  } else {
    out += text.held;
    text.held.clear();
  }
}

}  // namespace finermoe
