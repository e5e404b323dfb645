#include "runtime/model_draft.h"

#include <algorithm>
#include <limits>

#include "base/stopwatch.h"
#include "runtime/step.h"

namespace finermoe {
namespace {

constexpr size_t trial = 2;                                // drafts, from which their time and hit rate are known
constexpr size_t plain_every = 64;                         // passes: one without drafts, so that its time is known
constexpr size_t shortest_rest = 64, longest_rest = 4096;  // tokens
constexpr size_t longer_rest = 4;                          // times the last one
constexpr double rest_for_trial = 100;                     // times as long as the trial took, at least
constexpr size_t read_for_one_decoded = 16;                // tokens
constexpr size_t few_rows = 2;                             // a pass over so many takes about as long as over one

}  // namespace

Status check_same_vocabulary(LoadedModel& model, LoadedModel& draft_model) {
  const uint64_t vocab = model.config().vocab_size, draft_vocab = draft_model.config().vocab_size;
  FM_ASSIGN(const auto tokenizer, model.usable_tokenizer());
  FM_ASSIGN(const auto of_draft, draft_model.usable_tokenizer());
  if (!tokenizer || !of_draft) {
    if (vocab == draft_vocab) return {};
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the draft model has another vocabulary than the session's model",
                  format_text(vocab, " tokens"), format_text(draft_vocab, " tokens"));
  }
  if (tokenizer == of_draft) return {};
  const size_t n = std::max(tokenizer->vocab_size(), of_draft->vocab_size());
  for (int32_t id = 0; static_cast<size_t>(id) < n; id++) {
    if (tokenizer->bytes(id) == of_draft->bytes(id)) continue;
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("the draft model has another vocabulary than the session's model: token ", id, " is ",
                              of_draft->bytes(id), " in place of ", tokenizer->bytes(id)),
                  std::string(tokenizer->bytes(id)), std::string(of_draft->bytes(id)));
  }
  return {};
}

ModelDraft::ModelDraft(std::shared_ptr<LoadedModel> model, size_t n_draft, SamplingOptions sampling,
                       std::vector<int32_t> never, bool whatever_it_costs)
    : model_(std::move(model)),
      n_draft_(n_draft),
      whatever_it_costs_(whatever_it_costs),
      sampler_(std::move(sampling), std::move(never)),
      guess_(0.75, 0.125) {
  guess_.reserve(n_draft);
}

// Every 64th pass has no drafts. Drafts that do not pay are tried again after a rest, which gets longer each time, and
// is so long that the trial took a hundredth of it, up to longest_rest.
size_t ModelDraft::n_wanted(const DraftRequest& request, const DraftPace& pace) {
  guess_.clear();
  const size_t limit = std::min(request.limit, n_draft_);
  if (limit == 0 || n_to_rest_ > 0) return 0;
  if (whatever_it_costs_) return limit;
  if (!pace.knows_plain() || ++n_passes_ % plain_every == 0) return 0;
  if (is_on_trial_ && !is_worth_reading(request)) return 0;
  if (is_on_trial_ || !pace.is_known()) return std::min(limit, trial);
  const size_t n = pace.best(hit_rate(), limit);
  if (n == 0) {
    rest(rest_for_trial * spent_ / pace.plain_seconds());
  } else {
    last_rest_ = 0;
    spent_ = 0;
  }
  return n;
}

// A text is read for its first draft once decoding has taken as long as reading it may: a short answer to a long prompt
// never pays for it.
bool ModelDraft::is_worth_reading(const DraftRequest& request) const {
  const auto& follower = request.session->follower();
  const std::vector<int32_t>& text = request.session->tokens();
  const size_t n_read = follower && follower->model() == model_ ? follower->common_prefix(text) : 0;
  return text.size() - n_read <= read_for_one_decoded * request.n_generated;
}

void ModelDraft::rest(double n_tokens) {
  const auto at_least = static_cast<size_t>(std::min<double>(longest_rest, n_tokens));
  n_to_rest_ = last_rest_ = std::clamp(std::max(at_least, longer_rest * last_rest_), shortest_rest, longest_rest);
  spent_ = 0;
  is_on_trial_ = true;
}

void ModelDraft::chose(int32_t token) {
  guess_.chose(token);
  if (n_to_rest_ > 0) n_to_rest_--;
}

void ModelDraft::draft(std::span<Task> tasks, const StopSignals& stop) {
  try {
    draft_together(tasks, stop);
  } catch (const std::bad_alloc&) {  // the request needs none of this
    for (Task& task : tasks) task.by->rest();
  }
}

void ModelDraft::draft_together(std::span<Task> tasks, const StopSignals& stop) {
  std::vector<Task*> waiting;
  for (Task& task : tasks) {
    if (task.by->follow(task, stop).ok()) {
      waiting.push_back(&task);
    } else {
      task.by->rest();
    }
  }
  for (;;) {
    std::erase_if(waiting, [](const Task* task) { return task->n_left == 0; });
    if (waiting.empty()) return;
    const LoadedModel* model = waiting[0]->by->model_.get();
    const auto others = std::partition(waiting.begin(), waiting.end(),
                                       [&](const Task* task) { return task->by->model_.get() == model; });
    pass({waiting.begin(), others}, stop);
  }
}

// Brings the text to the session that reads it along, without computing any of it.
Status ModelDraft::follow(Task& task, const StopSignals& stop) {
  FM_TRY(model_->runtime()->check_process());
  StopSignals or_closed = stop;
  or_closed.watch(model_->closed, "draft model");
  FM_TRY(or_closed.check());
  sampler_.set_state(task.request->sampler->state());
  Session& session = *task.request->session;
  SessionOptions options = session.options();
  options.context_length = std::min(options.context_length, model_->config().max_positions);
  if (!session.follower() || session.follower()->model() != model_ ||
      session.follower()->capacity() != options.context_length) {
    session.set_follower(nullptr);  // before another one takes memory
    options.precision = Precision::fast;
    options.hidden = Hidden::none;
    options.progress = {};
    FM_ASSIGN(auto follower, Session::create(model_, options, or_closed));
    session.set_follower(std::move(follower));
  }
  Session& follower = *session.follower();
  const std::span<const int32_t> text = session.tokens();
  const std::span<const int32_t> unread = text.subspan(follower.keep_prefix(text));
  FM_TRY(follower.check_ids(unread, follower.length()));
  follower.reserve(unread.size());
  follower.hold(unread);
  if (follower.uncomputed().empty()) follower.recompute_last();
  task.n_left = std::min(task.n_left, static_cast<size_t>(follower.capacity() - follower.length()));
  return {};
}

Status ModelDraft::make_room_for_logits(size_t n_rows) {
  const uint64_t bytes = n_rows * model_->config().vocab_size * sizeof(float);
  if (logits_.size() >= bytes) return {};
  logits_ = Buffer();
  FM_ASSIGN(logits_, Buffer::allocate(model_->runtime()->account(), bytes, "logits of drafts"));
  return {};
}

// One pass over one model: the next token of each, or a chunk of the text that it has not read, after which it has no
// drafts for now. Those that find no room in it wait for the next one.
void ModelDraft::pass(std::span<Task* const> tasks, const StopSignals& stop) {
  LoadedModel& model = *tasks[0]->by->model_;
  const uint64_t vocab = model.config().vocab_size;
  StopSignals or_closed = stop;
  or_closed.watch(model.closed, "draft model");
  std::vector<StepPart> parts;
  std::vector<size_t> last_rows(tasks.size());
  size_t room = SessionOptions::default_chunk, n_read = 0;
  bool are_few_rows = true;
  for (size_t i = 0; i < tasks.size() && room > 0; i++) {
    Session& session = *tasks[i]->request->session->follower();
    const size_t n_waiting = session.uncomputed().size(), n = std::min({room, n_waiting, session.options().chunk});
    room -= n;
    last_rows[i] = n - 1;
    parts.push_back({&session, n, std::span(&last_rows[i], n == n_waiting ? 1 : 0)});
    n_read += parts.back().rows.size();
    are_few_rows = are_few_rows && n <= few_rows;
  }
  tasks = tasks.first(parts.size());

  const Stopwatch watch;
  // All of them use the largest buffer that one has, so that only one grows.
  const auto of_size = [](const Task* a, const Task* b) { return a->by->logits_.size() < b->by->logits_.size(); };
  ModelDraft& owner = *(*std::max_element(tasks.begin(), tasks.end(), of_size))->by;
  Status status = owner.make_room_for_logits(std::max<size_t>(n_read, 1));
  float* const logits = owner.logits_.data<float>();
  if (status.ok()) status = run_step(model, parts, {.logits = logits}, or_closed);
  if (!status.ok()) {
    const bool fail_alone = std::any_of(parts.begin(), parts.end(), [](const auto& part) { return !part.status.ok(); });
    for (size_t i = 0; i < tasks.size(); i++) {
      tasks[i]->n_left = 0;
      if (stop.check().ok() && (!fail_alone || !parts[i].status.ok())) tasks[i]->by->rest();
    }
    return;
  }
  std::vector<std::span<const float>> rows;
  size_t n_before = 0;
  for (const StepPart& part : parts) {
    rows.emplace_back(logits + n_before * vocab, part.rows.size() * vocab);
    n_before += part.rows.size();
  }
  model.runtime()->pool()->run(tasks.size(), [&](size_t i, size_t) { tasks[i]->by->choose_next(*tasks[i], rows[i]); });
  const double seconds = watch.seconds();
  for (Task* task : tasks) {
    task->by->spent_ += seconds / static_cast<double>(tasks.size());
    if (are_few_rows) task->pace->drafted(seconds);
  }
}

Result<std::span<const float>> ModelDraft::pad(std::span<const float> logits, uint64_t vocab) {
  const uint64_t bytes = vocab * sizeof(float);
  if (padded_.size() < bytes) {
    FM_ASSIGN(padded_, Buffer::allocate(model_->runtime()->account(), bytes, "logits of drafts"));
  }
  float* const padded = padded_.data<float>();
  std::fill(std::copy(logits.begin(), logits.end(), padded), padded + vocab, -std::numeric_limits<float>::infinity());
  return std::span<const float>(padded, vocab);
}

// logits: empty if the session has more to read.
void ModelDraft::choose_next(Task& task, std::span<const float> logits) {
  if (logits.empty()) {
    task.n_left = 0;
    return;
  }
  const DraftRequest& request = *task.request;
  const uint64_t vocab = request.session->model()->config().vocab_size;
  if (logits.size() < vocab) {
    const auto padded = pad(logits, vocab);
    if (!padded.ok()) {
      task.n_left = 0;
      rest();
      return;
    }
    logits = *padded;
  }
  const size_t n_before = guess_.tokens().size();
  const bool may_end = n_before >= request.n_before_end;
  const auto token = sampler_.choose(logits.first(vocab), may_end ? std::span<const int32_t>() : request.ends);
  if (!token.ok()) {
    task.n_left = 0;
    rest();
    return;
  }
  Session& follower = *request.session->follower();
  sampler_.reserve();
  follower.reserve(1);
  sampler_.saw_generated(*token);
  follower.hold({&*token, 1});
  guess_.add(*token);
  is_on_trial_ = false;
  const bool has_ended = may_end && std::find(request.ends.begin(), request.ends.end(), *token) != request.ends.end();
  task.n_left = has_ended ? 0 : task.n_left - 1;
}

}  // namespace finermoe
