#include "runtime/session.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "runtime/step.h"
#include "sampling/sampler.h"

namespace finermoe {

Result<SessionOptions> SessionOptions::resolved(const Config& config) const {
  SessionOptions out = *this;
  if (out.context_length == 0) out.context_length = std::min(config.max_positions, default_context);
  if (out.chunk == 0) out.chunk = default_chunk;
  out.chunk = static_cast<size_t>(std::min<uint64_t>(out.chunk, out.context_length));
  if (out.context_length > config.max_positions) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH,
                  format_text("a context of ", out.context_length, " tokens is more than the model's ",
                              config.max_positions, " positions"),
                  format_text("at most ", config.max_positions), format_text(out.context_length));
  }
  return out;
}

Result<std::shared_ptr<Session>> Session::create(std::shared_ptr<LoadedModel> model, const SessionOptions& options) {
  const StopSignals stop = model->stop_signals();
  return create(std::move(model), options, stop);
}

Result<std::shared_ptr<Session>> Session::create(std::shared_ptr<LoadedModel> model, const SessionOptions& options,
                                                 const StopSignals& stop) {
  std::shared_ptr<Session> session(new Session);
  const Config& config = model->config();
  session->asked_ = options;
  session->precision_ = options.precision;
  FM_ASSIGN(session->options_, options.resolved(config));
  const auto& account = model->runtime()->account();
  session->model_ = std::move(model);
  FM_ASSIGN(session->cache_, session->make_cache(session->options_.context_length, "the KV cache"));
  FM_ASSIGN(session->logits_, Buffer::allocate(account, config.vocab_size * sizeof(float), "logits"));
  // Allocates scratch for the largest chunk now, so that too low a limit is an error here and not in the middle of a
  // text.
  LoadedModel& of = *session->model_;
  FM_ASSIGN(auto scratch, of.borrow_scratch(session->options_.chunk, session->options_.context_length, stop));
  return session;
}

Result<std::unique_ptr<KvCache>> Session::make_cache(uint64_t context_length, std::string_view what) const {
  return model_->make_kv_cache(context_length, options_.kv_dtype, what);
}

Status Session::check_room(size_t n_more, size_t n_before) const {
  if (n_more <= capacity() - n_before) return {};
  return Status(FINERMOE_ERROR_CONTEXT_LENGTH,
                format_text(n_more, n_more == 1 ? " more token does" : " more tokens do",
                            " not fit: the session holds ", n_before, " of ", capacity()),
                format_text("at most ", capacity() - n_before, " tokens"), format_text(n_more));
}

Status Session::check_ids(std::span<const int32_t> ids, size_t n_before) const {
  FM_TRY(check_room(ids.size(), n_before));
  const uint64_t vocab = model_->config().vocab_size;
  for (size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= vocab) {
      return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                    format_text("token id ", ids[i], " at index ", i, " is not in the vocabulary of ", vocab),
                    format_text("0 to ", vocab - 1), format_text(ids[i]));
    }
  }
  return {};
}

void Session::reserve(size_t n) {
  const size_t needed = tokens_.size() + n;
  if (tokens_.capacity() < needed) tokens_.reserve(std::max(needed, 2 * tokens_.capacity()));
}

void Session::hold(std::span<const int32_t> ids) {
  tokens_.insert(tokens_.end(), ids.begin(), ids.end());
  has_last_logits_ = has_last_logits_ && ids.empty();
  if (!ids.empty()) changed();
}

void Session::begin_step(size_t n_ahead) {
  drop_ahead();
  ahead_.reserve(n_ahead);
}

void Session::computed(size_t n, std::span<const int32_t> ahead) {
  n_computed_ += n;
  step_index_++;
  ahead_.assign(ahead.begin(), ahead.end());
}

bool Session::adopt_ahead(uint64_t step) {
  const std::span<const int32_t> left = ahead(step);
  if (left.empty() || uncomputed().size() != 1 || uncomputed()[0] != left[0]) return false;
  n_adopted_++;
  n_computed_++;
  return true;
}

Status Session::compute(std::span<const size_t> rows, const Readout& wanted, const StopSignals& stop,
                        Status* own_status) {
  const Config& config = model_->config();
  const size_t total = uncomputed().size();
  std::vector<size_t> rows_of_chunk;
  for (size_t done = 0, n_read = 0; done < total;) {
    const size_t n = std::min(options_.chunk, total - done);
    rows_of_chunk.clear();
    for (size_t i = n_read; i < rows.size() && rows[i] < done + n; i++) rows_of_chunk.push_back(rows[i] - done);
    Readout readout = wanted;
    if (wanted.hidden != nullptr) readout.hidden += n_read * config.hidden_size;
    if (wanted.logits != nullptr && wanted.logits_block == nullptr) readout.logits += n_read * config.vocab_size;
    if (!wanted.choices.empty()) {
      readout.choices = wanted.choices.subspan(n_read, rows_of_chunk.size());
      readout.chosen += n_read;
    }
    const auto moved_block = [&](size_t begin, size_t end, const float* logits) {
      (*wanted.logits_block)(n_read + begin, n_read + end, logits);
    };
    const Readout::LogitsBlock block = moved_block;
    if (wanted.logits_block != nullptr) readout.logits_block = &block;
    StepPart part{this, n, rows_of_chunk};
    const Status status = run_step(*model_, {&part, 1}, readout, stop);
    if (own_status != nullptr) *own_status = std::move(part.status);
    FM_TRY(status);
    done += n;
    n_read += rows_of_chunk.size();
    Status wanted_on = total > 1 ? options_.progress.report("prefill", done, total) : Status();
    if (done < total) FM_TRY(std::move(wanted_on));  // after the last chunk there is nothing left to cancel
  }
  return {};
}

Status Session::compute_all() { return compute({}, {}, stop_signals(nullptr), nullptr); }

StopSignals Session::stop_signals(const CancelFlag* cancel) const {
  StopSignals stop(cancel);
  stop.watch(model_->closed, "model");
  stop.watch(use.closed, "session");
  return stop;
}

// Removes the tokens that a call appended if it then fails, by a status or an exception.
struct Session::Undo {
  Session& session;
  size_t length = session.length();
  bool is_done = false;
  ~Undo() {
    if (is_done) return;
    session.drop_ahead();
    session.tokens_.resize(length);
    session.n_computed_ = std::min(session.n_computed_, length);
    session.changed();
    session.forget_rows();
  }
};

Status Session::append(std::span<const int32_t> ids, std::span<const size_t> rows, const CancelFlag* cancel) {
  FM_TRY(check_ids(ids, length()));
  FM_TRY(keep_rows(rows.size()));
  std::vector<size_t> behind(rows.begin(), rows.end());  // `rows`, counted after the tokens not computed before
  for (size_t& row : behind) row += uncomputed().size();
  reserve(ids.size());
  Undo undo{*this};
  hold(ids);
  Readout wanted;
  if (options_.hidden != Hidden::none) wanted.hidden = hidden_.data<float>();
  if (options_.hidden != Hidden::only) wanted.logits = logits_.data<float>();
  Status status = compute(behind, wanted, stop_signals(cancel), nullptr);
  if (status.code() == FINERMOE_ERROR_CANCELLED) undo.length = std::max(undo.length, n_computed_);
  FM_TRY(std::move(status));
  if (options_.hidden != Hidden::none) n_hidden_ = rows.size();
  if (options_.hidden != Hidden::only) n_logits_ = rows.size();
  has_last_logits_ = n_logits_ > 0 && rows.back() + 1 == ids.size();
  undo.is_done = true;
  return {};
}

Status Session::score(std::span<const int32_t> ids, const CancelFlag* cancel, std::span<float> logprobs,
                      std::span<int32_t> likeliest) {
  FM_TRY(check_ids(ids, length()));
  if (ids.empty()) return {};
  const uint64_t vocab = model_->config().vocab_size;
  std::atomic<bool> are_finite{true};
  const auto score_one = [&](size_t at, std::span<const float> row) {
    const LogProbabilities own(row);
    if (!own.are_finite()) are_finite = false;
    logprobs[at] = own.of(ids[at]);
    likeliest[at] = static_cast<int32_t>(std::max_element(row.begin(), row.end()) - row.begin());
  };
  // A row of logits predicts the next token: the row for ids[0] is that of the last token held.
  size_t n_first = 1;  // ids that need no row of this pass
  if (length() == 0) {
    logprobs[0] = std::numeric_limits<float>::quiet_NaN();
    likeliest[0] = -1;
  } else if (has_last_logits_ && uncomputed().empty()) {
    score_one(0, logits(n_logits_ - 1));
  } else {
    recompute_last();
    n_first = 0;
  }
  std::vector<size_t> rows(ids.size() - n_first);
  for (size_t i = 0; i < rows.size(); i++) rows[i] = uncomputed().size() + i + n_first - 1;
  constexpr size_t at_once = 64;
  const uint64_t bytes = std::clamp<size_t>(rows.size(), 1, at_once) * vocab * sizeof(float);
  FM_ASSIGN(const Buffer logits, Buffer::allocate(model_->runtime()->account(), bytes, "logits of some tokens"));
  const auto score_rows = [&](size_t begin, size_t end, const float* of_rows) {
    model_->runtime()->pool()->run(end - begin, [&](size_t i, size_t) {
      score_one(begin + i + n_first, {of_rows + i * vocab, vocab});
    });
  };
  const Readout::LogitsBlock block = score_rows;
  reserve(ids.size());
  Undo undo{*this};
  hold(ids);
  FM_TRY(compute(rows, {.logits = logits.data<float>(), .logits_block = &block, .logits_block_rows = at_once},
                 stop_signals(cancel), nullptr));
  if (!are_finite) {
    return Status(FINERMOE_ERROR_NOT_FINITE, "the model's logits are not finite: they give no probabilities",
                  "finite logits", "NaN or infinity");
  }
  forget_rows();
  undo.is_done = true;
  return {};
}

std::span<const float> Session::logits(size_t row) const {
  const uint64_t vocab = model_->config().vocab_size;
  return {logits_.data<float>() + row * vocab, vocab};
}

std::span<const float> Session::hidden(size_t row) const {
  const uint64_t h = model_->config().hidden_size;
  return {hidden_.data<float>() + row * h, h};
}

// Makes room for what is kept of n rows; nothing is kept at first.
Status Session::keep_rows(size_t n) {
  forget_rows();
  const Config& config = model_->config();
  if (options_.hidden != Hidden::only) {
    FM_TRY(logits_.resize(std::max<size_t>(n, 1) * config.vocab_size * sizeof(float), "logits"));
  }
  if (options_.hidden != Hidden::none && n > 0) {
    FM_ASSIGN(hidden_,
              Buffer::allocate(model_->runtime()->account(), n * config.hidden_size * sizeof(float), "hidden states"));
  }
  return {};
}

// Keeps room for one row of logits, so that a session always has what its next token needs.
void Session::forget_rows() {
  n_logits_ = n_hidden_ = 0;
  has_last_logits_ = false;
  const Status shrunk = logits_.resize(model_->config().vocab_size * sizeof(float), "logits");
  static_cast<void>(shrunk);  // has no errors
  hidden_ = Buffer();
}

Status Session::truncate(size_t length) {
  if (length > tokens_.size()) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("cannot truncate to ", length, " tokens: the session holds ", tokens_.size()),
                  format_text("at most ", tokens_.size()), format_text(length));
  }
  if (length == tokens_.size()) return {};
  changed();
  drop_ahead();
  tokens_.resize(length);
  n_computed_ = std::min(n_computed_, length);
  forget_rows();
  return {};
}

size_t Session::common_prefix(std::span<const int32_t> ids) const {
  const auto n = static_cast<ptrdiff_t>(std::min(ids.size(), tokens_.size()));
  return static_cast<size_t>(std::mismatch(tokens_.begin(), tokens_.begin() + n, ids.begin()).first - tokens_.begin());
}

size_t Session::keep_prefix(std::span<const int32_t> ids) {
  const Status kept = truncate(common_prefix(ids));
  static_cast<void>(kept);  // never longer than it is
  return length();
}

Status Session::remove(size_t begin, size_t end) {
  if (begin > end || end > length()) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  format_text("cannot forget the tokens [", begin, ", ", end, "): the session holds ", length()),
                  format_text("begin <= end <= ", length()), format_text(begin, " and ", end));
  }
  const size_t n = end - begin;
  if (n == 0) return {};
  drop_ahead();
  const size_t n_computed = n_computed_;
  n_computed_ = std::min(n_computed, begin);  // a cache on several devices may be half moved if that fails
  if (n_computed > end) FM_TRY(cache_->move_down(end, n_computed, n, model_->config().rope));
  if (n_computed >= end) n_computed_ = n_computed - n;
  const auto at = [&](size_t i) { return tokens_.begin() + static_cast<ptrdiff_t>(i); };
  tokens_.erase(at(begin), at(end));
  changed();
  forget_rows();
  return {};
}

Status Session::set_context_length(uint64_t n_tokens) {
  SessionOptions asked = asked_;
  asked.context_length = n_tokens;
  FM_ASSIGN(SessionOptions options, asked.resolved(model_->config()));
  if (options.context_length < length()) {
    return Status(
        FINERMOE_ERROR_CONTEXT_LENGTH,
        format_text("a context of ", options.context_length, " tokens is too short: the session holds ", length()),
        format_text("at least ", length()), format_text(options.context_length));
  }
  FM_ASSIGN(auto cache, make_cache(options.context_length, "a KV cache of another length"));
  FM_ASSIGN(auto scratch, model_->borrow_scratch(options.chunk, options.context_length, stop_signals(nullptr)));
  FM_TRY(cache->copy_prefix(*cache_, n_computed_));
  drop_ahead();
  cache_ = std::move(cache);
  options_ = options;
  asked_ = asked;
  return {};
}

Result<std::shared_ptr<Session>> Session::fork() {
  FM_TRY(compute_all());
  FM_ASSIGN(auto copy, create(model_, asked_));
  FM_TRY(copy->cache_->copy_prefix(*cache_, n_computed_));
  copy->tokens_ = tokens_;
  copy->n_computed_ = n_computed_;
  return copy;
}

Status Session::set_trace(std::shared_ptr<Trace> trace) {
  if (trace == trace_) return {};
  if (trace && trace->is_recording.exchange(true)) {
    return Status(FINERMOE_ERROR_STATE, "the trace records another session", "a trace for each session",
                  "one trace for two");
  }
  drop_ahead();  // what is computed from now on is recorded
  release_trace();
  trace_ = std::move(trace);
  return {};
}

void Session::release_trace() {
  if (trace_) trace_->is_recording = false;
  trace_.reset();
}

}  // namespace finermoe
