// Section 7 of finermoe.h: session.
#include "api/handles.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

// Runs a body with exclusive use of a session.
template <class Body>
int32_t on_session(const finermoe_session* handle, finermoe_error** error, Body&& body) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(handle, "session"));
    const std::shared_ptr<Session> session = handle->session;
    FM_TRY(session->model()->runtime()->check_process());
    const ExclusiveUse use(session->use, "session");
    FM_TRY(use.check());
    return body(*session);
  });
}

Status require_kept(size_t row, size_t n_kept, const char* rows) {
  if (row < n_kept) return {};
  return Status(FINERMOE_ERROR_STATE, format_text("row ", row, " of ", rows, " was not kept"),
                format_text("less than ", n_kept), format_text(row));
}

}  // namespace

int32_t finermoe_session_options_create(finermoe_session_options** options, finermoe_error** error) {
  return guarded(error, [&] { return give(options); });
}
void finermoe_session_options_free(finermoe_session_options* options) { delete options; }

int32_t finermoe_session_options_set_context_length(finermoe_session_options* options, size_t n_tokens,
                                                    finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.context_length = n_tokens;
    return {};
  });
}

int32_t finermoe_session_options_set_kv_dtype(finermoe_session_options* options, int32_t dtype,
                                              finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(dtype, dtype >= FINERMOE_DTYPE_F32 && dtype <= FINERMOE_DTYPE_Q8, "the KV cache's dtype",
                         "one of FINERMOE_DTYPE_F32, _F16, _BF16 and _Q8"));
    options->options.kv_dtype = static_cast<DType>(dtype);
    return {};
  });
}

int32_t finermoe_session_options_set_precision(finermoe_session_options* options, int32_t precision,
                                               finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    const bool known = precision == FINERMOE_PRECISION_EXACT || precision == FINERMOE_PRECISION_FAST;
    FM_TRY(require_range(precision, known, "precision", "one of FINERMOE_PRECISION_…"));
    options->options.precision = static_cast<Precision>(precision);
    return {};
  });
}

int32_t finermoe_session_options_set_chunk(finermoe_session_options* options, size_t n_tokens, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    FM_TRY(require_range(static_cast<double>(n_tokens), n_tokens <= 65536, "n_tokens", "at most 65536"));
    options->options.chunk = n_tokens;
    return {};
  });
}

int32_t finermoe_session_options_set_hidden(finermoe_session_options* options, int32_t hidden, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    const bool known = hidden >= FINERMOE_HIDDEN_NONE && hidden <= FINERMOE_HIDDEN_ONLY;
    FM_TRY(require_range(hidden, known, "hidden", "one of FINERMOE_HIDDEN_…"));
    options->options.hidden = static_cast<Hidden>(hidden);
    return {};
  });
}

int32_t finermoe_session_options_set_progress(finermoe_session_options* options, finermoe_progress_fn progress,
                                              void* user, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(options, "options"));
    options->options.progress.callback = progress;
    options->options.progress.user = user;
    return {};
  });
}

int32_t finermoe_session_create(finermoe_model* model, const finermoe_session_options* options,
                                finermoe_session** session, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(require(session, "session"));
    const auto loaded = model->model;
    FM_TRY(loaded->runtime()->check_process());
    if (loaded->closed.load(std::memory_order_relaxed)) return Status(FINERMOE_ERROR_CLOSED, "the model was closed");
    FM_ASSIGN(auto created, Session::create(loaded, options ? options->options : SessionOptions{}));
    return give(session, std::move(created));
  });
}

void finermoe_session_close(finermoe_session* session) {
  if (session) session->session->use.closed.store(true, std::memory_order_relaxed);
}
void finermoe_session_free(finermoe_session* session) { delete session; }

int32_t finermoe_session_append(finermoe_session* session, const int32_t* ids, size_t n_ids, int32_t logits,
                                finermoe_cancel* cancel, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_TRY(require_range(logits, logits >= FINERMOE_LOGITS_NONE && logits <= FINERMOE_LOGITS_ALL, "logits",
                         "one of FINERMOE_LOGITS_NONE, _LAST and _ALL"));
    FM_TRY(s.check_room(n_ids, s.length()));
    const size_t n_rows = logits == FINERMOE_LOGITS_ALL ? n_ids : logits == FINERMOE_LOGITS_LAST && n_ids != 0;
    std::vector<size_t> rows(n_rows);
    for (size_t i = 0; i < n_rows; i++) rows[i] = n_ids - n_rows + i;
    return s.append({ids, n_ids}, rows, flag_of(cancel).get());
  });
}

int32_t finermoe_session_append_rows(finermoe_session* session, const int32_t* ids, size_t n_ids, const size_t* rows,
                                     size_t n_rows, finermoe_cancel* cancel, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_TRY(require_array(rows, n_rows, "rows"));
    FM_TRY(s.check_room(n_ids, s.length()));
    for (size_t i = 0; i < n_rows; i++) {
      if (rows[i] >= n_ids || (i > 0 && rows[i] <= rows[i - 1])) {
        return Status(FINERMOE_ERROR_INVALID_ARGUMENT, format_text("rows[", i, "] is ", rows[i]),
                      format_text("strictly ascending indices below ", n_ids), format_text(rows[i]));
      }
    }
    return s.append({ids, n_ids}, {rows, n_rows}, flag_of(cancel).get());
  });
}

int32_t finermoe_session_score(finermoe_session* session, const int32_t* ids, size_t n_ids, finermoe_cancel* cancel,
                               float* logprobs, int32_t* likeliest, size_t capacity, size_t* needed,
                               finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_TRY(s.check_room(n_ids, s.length()));
    FM_TRY(require_room(n_ids, logprobs, capacity, needed));
    std::vector<float> scores(n_ids);
    std::vector<int32_t> best(n_ids);
    FM_TRY(s.score({ids, n_ids}, flag_of(cancel).get(), scores, best));
    std::copy(scores.begin(), scores.end(), logprobs);
    if (likeliest != nullptr) std::copy(best.begin(), best.end(), likeliest);
    return {};
  });
}

int32_t finermoe_session_logits(const finermoe_session* session, size_t row, float* logits, size_t capacity,
                                size_t* needed, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_kept(row, s.n_logits(), "the logits"));
    return put(s.logits(row), logits, capacity, needed);
  });
}

int32_t finermoe_session_hidden(const finermoe_session* session, size_t row, float* hidden, size_t capacity,
                                size_t* needed, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_kept(row, s.n_hidden(), "the hidden states"));
    return put(s.hidden(row), hidden, capacity, needed);
  });
}

int32_t finermoe_session_get_info(const finermoe_session* session, finermoe_session_info* info,
                                  finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    finermoe_session_info out{};
    out.kv_dtype = static_cast<int32_t>(s.options().kv_dtype);
    out.length = s.length();
    out.context_length = s.capacity();
    out.n_logits = s.n_logits();
    out.kv_bytes = s.cache().bytes();
    out.precision = static_cast<int32_t>(s.options().precision);
    out.quantized_dtypes = s.options().precision == Precision::fast ? s.model()->quantized_dtypes() : 0;
    out.n_computed = s.n_computed();
    out.n_hidden = s.n_hidden();
    return put_struct(out, info);
  });
}

int32_t finermoe_session_tokens(const finermoe_session* session, int32_t* ids, size_t capacity, size_t* needed,
                                finermoe_error** error) {
  return on_session(session, error,
                    [&](Session& s) -> Status { return put<int32_t>(s.tokens(), ids, capacity, needed); });
}

int32_t finermoe_session_truncate(finermoe_session* session, size_t length, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status { return s.truncate(length); });
}

int32_t finermoe_session_reset(finermoe_session* session, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status { return s.truncate(0); });
}

int32_t finermoe_session_keep_prefix(finermoe_session* session, const int32_t* ids, size_t n_ids, size_t* n_kept,
                                     finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_TRY(require(n_kept, "n_kept"));
    *n_kept = s.keep_prefix({ids, n_ids});
    return {};
  });
}

int32_t finermoe_session_remove(finermoe_session* session, size_t begin, size_t end, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status { return s.remove(begin, end); });
}

int32_t finermoe_session_set_context_length(finermoe_session* session, size_t n_tokens, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status { return s.set_context_length(n_tokens); });
}

int32_t finermoe_session_set_progress(finermoe_session* session, finermoe_progress_fn progress, void* user,
                                      finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    s.set_progress({.callback = progress, .user = user, .cancel = nullptr});
    return {};
  });
}

int32_t finermoe_session_fork(finermoe_session* session, finermoe_session** fork, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require(fork, "fork"));
    FM_ASSIGN(auto copy, s.fork());
    return give(fork, std::move(copy));
  });
}

int32_t finermoe_session_save(finermoe_session* session, const char* path, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require(path, "path"));
    return s.save(path);
  });
}

int32_t finermoe_session_restore(finermoe_session* session, const char* path, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require(path, "path"));
    return s.restore(path);
  });
}

int32_t finermoe_session_save_memory(finermoe_session* session, void* data, size_t capacity, size_t* needed,
                                     finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    const uint64_t bytes = s.saved_bytes();
    FM_TRY(require_room(bytes, data, capacity, needed));
    return s.save({static_cast<std::byte*>(data), bytes});
  });
}

int32_t finermoe_session_restore_memory(finermoe_session* session, const void* data, size_t size,
                                        finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    FM_TRY(require_array(data, size, "data"));
    return s.restore(bytes_of(data, size));
  });
}

int32_t finermoe_session_set_trace(finermoe_session* session, finermoe_trace* trace, finermoe_error** error) {
  return on_session(session, error, [&](Session& s) -> Status {
    if (trace != nullptr && trace->trace->model != s.model()) {
      return Status(FINERMOE_ERROR_INVALID_ARGUMENT, "the trace was made for another model than the session's");
    }
    return s.set_trace(trace ? trace->trace : nullptr);
  });
}
