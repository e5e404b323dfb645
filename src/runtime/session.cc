#include "runtime/session.h"

#include <algorithm>
#include <cstring>

#include "backend/kv_cache.h"
#include "base/saturating.h"
#include "runtime/step.h"

namespace finermoe {

Result<SessionOptions> SessionOptions::resolved(const Config& config) const {
  SessionOptions out = *this;
  if (out.context_length == 0) out.context_length = std::min(config.max_positions, default_context);
  if (out.chunk == 0) out.chunk = default_chunk;
  out.chunk = static_cast<size_t>(std::min<uint64_t>(out.chunk, out.context_length));
  if (out.context_length > config.max_positions) {
    return Status(FINERMOE_ERROR_CONTEXT_LENGTH,
                  cat("a context of ", out.context_length, " tokens is more than the model's ", config.max_positions,
                      " positions"),
                  cat("at most ", config.max_positions), cat(out.context_length));
  }
  return out;
}

uint64_t kv_cache_bytes(const Config& config, uint64_t context_length, DType dtype) {
  const uint64_t head_bytes = KvLayout(dtype, config.head_size).head_bytes(context_length);
  return saturating_product(config.n_layers * 2 * config.n_kv_heads, head_bytes);
}

Result<std::shared_ptr<Session>> Session::create(std::shared_ptr<LoadedModel> model, const SessionOptions& options) {
  std::shared_ptr<Session> session(new Session);
  const Config& config = model->config();
  FM_ASSIGN(session->options_, options.resolved(config));
  const auto& account = model->runtime()->account();
  const uint64_t kv = kv_cache_bytes(config, session->options_.context_length, session->options_.kv_dtype);
  FM_ASSIGN(session->cache_, Buffer::allocate(account, kv, "the KV cache"));
  FM_ASSIGN(session->logits_, Buffer::allocate(account, config.vocab_size * sizeof(float), "logits"));
  // Scratch for the largest chunk, now: a limit that is too low is an error here and not in the middle of a text.
  FM_ASSIGN(auto scratch, model->borrow_scratch(session->options_.chunk, session->options_.context_length));
  session->model_ = std::move(model);
  return session;
}

Status Session::check_room(size_t n_more, size_t n_before) const {
  if (n_more <= capacity() - n_before) return {};
  return Status(FINERMOE_ERROR_CONTEXT_LENGTH,
                cat(n_more, " more tokens do not fit: the session holds ", n_before, " of ", capacity()),
                cat("at most ", capacity() - n_before, " tokens"), cat(n_more));
}

Status Session::check_ids(std::span<const int32_t> ids, size_t n_before) const {
  FM_TRY(check_room(ids.size(), n_before));
  const uint64_t vocab = model_->config().vocab_size;
  for (size_t i = 0; i < ids.size(); i++) {
    if (ids[i] < 0 || static_cast<uint64_t>(ids[i]) >= vocab) {
      return Status(FINERMOE_ERROR_TOKEN_OUT_OF_RANGE,
                    cat("token id ", ids[i], " at index ", i, " is not in the vocabulary of ", vocab),
                    cat("0 to ", vocab - 1), cat(ids[i]));
    }
  }
  return {};
}

// What an append that fails, by a status or an exception, leaves of its tokens.
struct Session::Undo {
  Session& session;
  size_t length;
  bool is_done = false;
  ~Undo() {
    if (is_done) return;
    session.forget_logits();
    session.tokens_.resize(length);
  }
};

Status Session::append(std::span<const int32_t> ids, std::span<const size_t> logit_rows, const CancelFlag* cancel) {
  FM_TRY(check_ids(ids, length()));
  const uint64_t vocab = model_->config().vocab_size;
  FM_TRY(logits_.resize(logits_bytes(std::max<size_t>(logit_rows.size(), 1)), "logits"));
  n_logits_ = 0;
  StopSignals stop(cancel);
  stop.watch(model_->closed, "model");
  stop.watch(use.closed, "session");
  Undo undo{*this, length()};
  std::vector<size_t> rows;
  for (size_t done = 0, next_row = 0; done < ids.size();) {
    const size_t n = std::min(options_.chunk, ids.size() - done);
    rows.clear();
    for (; next_row < logit_rows.size() && logit_rows[next_row] < done + n; next_row++) {
      rows.push_back(logit_rows[next_row] - done);
    }
    StepPart part{this, ids.subspan(done, n), rows};
    Status status = run_step(*model_, {&part, 1}, logits_.data<float>() + n_logits_ * vocab, stop);
    if (status.ok()) {
      done += n;
      n_logits_ += rows.size();
      if (ids.size() > 1) status = options_.progress.report("prefill", done, ids.size());
    }
    if (!status.ok()) {
      if (status.code() == FINERMOE_ERROR_CANCELLED) undo.length = length();
      return status;
    }
  }
  undo.is_done = true;
  return {};
}

std::span<const float> Session::logits(size_t row) const {
  const uint64_t vocab = model_->config().vocab_size;
  return {logits_.data<float>() + row * vocab, vocab};
}

// Keeps the room for one row: a session has what its next token needs.
void Session::forget_logits() {
  n_logits_ = 0;
  const Status shrunk = logits_.resize(logits_bytes(1), "logits");
  static_cast<void>(shrunk);  // has no errors
}

void Session::reserve(size_t n) {
  const size_t needed = tokens_.size() + n;
  if (tokens_.capacity() < needed) tokens_.reserve(std::max(needed, 2 * tokens_.capacity()));
}

Status Session::truncate(size_t length) {
  if (length > tokens_.size()) {
    return Status(FINERMOE_ERROR_INVALID_ARGUMENT,
                  cat("cannot truncate to ", length, " tokens: the session holds ", tokens_.size()),
                  cat("at most ", tokens_.size()), cat(length));
  }
  tokens_.resize(length);
  forget_logits();
  return {};
}

Result<std::shared_ptr<Session>> Session::fork() const {
  FM_ASSIGN(auto copy, create(model_, options_));
  const Config& config = model_->config();
  const KvLayout layout(options_.kv_dtype, config.head_size);
  const uint64_t head_bytes = layout.head_bytes(capacity()), used_bytes = layout.head_bytes(length());
  for (uint64_t head = 0; head < config.n_layers * 2 * config.n_kv_heads; head++) {
    std::memcpy(copy->cache_.data() + head * head_bytes, cache_.data() + head * head_bytes, used_bytes);
  }
  copy->tokens_ = tokens_;
  return copy;
}

}  // namespace finermoe
