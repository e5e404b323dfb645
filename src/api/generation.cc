// Section 9 of finermoe.h: generation and batch.
#include "api/handles.h"

using namespace finermoe;
using namespace finermoe::api;

namespace {

Result<GenerationOptions> options_of(const finermoe_generation_options* options, const Session& session) {
  if (options != nullptr) return options->options;
  const LoadedModel& model = *session.model();
  FM_ASSIGN(const GenerationDefaults defaults, model.model().checkpoint->generation_defaults());
  return GenerationOptions::from_defaults(defaults, model.config().vocab_size);
}

// What the three ways to create one have in common; `make` receives the session, held.
template <class Make>
int32_t create(finermoe_session* handle, finermoe_generation** generation, finermoe_error** error, Make&& make) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(handle, "session"));
    FM_TRY(require(generation, "generation"));
    const std::shared_ptr<Session> session = handle->session;
    FM_TRY(session->model()->runtime()->check_process());
    const ExclusiveUse use(session->use, "session");
    FM_TRY(use.check());
    auto made = std::make_unique<finermoe_generation>();  // first: once a prompt is appended, nothing may fail
    FM_ASSIGN(made->generation, make(session));
    *generation = made.release();
    return {};
  });
}

template <class Body>
int32_t on_generation(const finermoe_generation* handle, finermoe_error** error, Body&& body) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(handle, "generation"));
    const std::shared_ptr<Generation> generation = handle->generation;
    FM_TRY(generation->session()->model()->runtime()->check_process());
    const ExclusiveUse use(generation->use, "generation");
    FM_TRY(use.check());
    return body(*generation);
  });
}

template <class Body>
int32_t on_batch(finermoe_batch* handle, finermoe_error** error, Body&& body) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(handle, "batch"));
    const std::shared_ptr<Batch> batch = handle->batch;
    FM_TRY(batch->model()->runtime()->check_process());
    const ExclusiveUse use(batch->use, "batch");
    FM_TRY(use.check());
    return body(*batch);
  });
}

Status put_event(const GenerationEvent& event, finermoe_event* place) {
  finermoe_event out{};
  out.finish_reason = static_cast<int32_t>(event.finish);
  out.token = event.token;
  out.logprob = event.logprob;
  out.text = event.text.c_str();
  out.text_length = event.text.size();
  out.top_ids = event.top_ids.data();
  out.top_logprobs = event.top_logprobs.data();
  out.n_top = event.top_ids.size();
  return put_struct(out, place);
}

using Created = Result<std::shared_ptr<Generation>>;

}  // namespace

int32_t finermoe_generation_create(finermoe_session* session, const finermoe_generation_options* options,
                                   const int32_t* ids, size_t n_ids, finermoe_generation** generation,
                                   finermoe_error** error) {
  return create(session, generation, error, [&](const std::shared_ptr<Session>& s) -> Created {
    FM_TRY(require_array(ids, n_ids, "ids"));
    FM_ASSIGN(auto chosen, options_of(options, *s));
    FM_TRY(s->check_room(n_ids, s->length()));
    return Generation::create(s, std::move(chosen), {ids, n_ids});
  });
}

int32_t finermoe_generation_create_text(finermoe_session* session, const finermoe_generation_options* options,
                                        const char* text, size_t text_length, uint32_t flags,
                                        finermoe_generation** generation, finermoe_error** error) {
  return create(session, generation, error, [&](const std::shared_ptr<Session>& s) -> Created {
    FM_TRY(require_array(text, text_length, "text"));
    FM_TRY(require_flags(flags, encode_flags));
    FM_ASSIGN(const auto tokenizer, s->model()->tokenizer());
    std::vector<int32_t> ids;
    FM_TRY(tokenizer->encode(text_of(text, text_length), encode_options(flags),
                             [&](int32_t id, ByteRange) { ids.push_back(id); }));
    FM_ASSIGN(auto chosen, options_of(options, *s));
    return Generation::create(s, std::move(chosen), ids);
  });
}

int32_t finermoe_generation_create_chat(finermoe_session* session, const finermoe_generation_options* options,
                                        const finermoe_chat* chat, uint32_t flags, finermoe_generation** generation,
                                        finermoe_error** error) {
  return create(session, generation, error, [&](const std::shared_ptr<Session>& s) -> Created {
    FM_TRY(require(chat, "chat"));
    FM_TRY(require_flags(flags, chat_flags));
    FM_ASSIGN(const auto tokenizer, s->model()->tokenizer());
    FM_ASSIGN(const auto ids, tokenizer->encode_chat(chat->messages, chat_end(flags)));
    FM_ASSIGN(GenerationOptions with_end, options_of(options, *s));
    // The template's own end of turn stops too, whatever stop tokens the model's configuration has.
    with_end.stop_tokens.push_back(tokenizer->end_of_turn_id());
    return Generation::create_from_start(s, std::move(with_end), ids);
  });
}

void finermoe_generation_close(finermoe_generation* generation) {
  if (generation) generation->generation->use.closed.store(true, std::memory_order_relaxed);
}
void finermoe_generation_free(finermoe_generation* generation) { delete generation; }

int32_t finermoe_generation_next(finermoe_generation* generation, finermoe_cancel* cancel, finermoe_event* event,
                                 finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_TRY(require_struct(event));  // before a token is spent on it
    FM_ASSIGN(const GenerationEvent* made, g.next(flag_of(cancel).get()));
    return put_event(*made, event);
  });
}

int32_t finermoe_generation_append(finermoe_generation* generation, const int32_t* ids, size_t n_ids,
                                   finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_TRY(require_array(ids, n_ids, "ids"));
    return g.append({ids, n_ids});
  });
}

int32_t finermoe_generation_finish(finermoe_generation* generation, finermoe_event* event, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_TRY(require_struct(event));
    return put_event(*g.end(), event);
  });
}

int32_t finermoe_generation_prepare(finermoe_generation* generation, finermoe_cancel* cancel, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status { return g.prepare(flag_of(cancel).get()); });
}

int32_t finermoe_generation_get_logits(const finermoe_generation* generation, float* logits, size_t capacity,
                                       size_t* needed, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    if (!g.prepared()) {
      return Status(FINERMOE_ERROR_STATE, "the next token's logits are not computed: call finermoe_generation_prepare");
    }
    FM_TRY(g.fetch_logits());
    return put(g.logits(), logits, capacity, needed);
  });
}

int32_t finermoe_generation_set_logits(finermoe_generation* generation, const float* logits, size_t n_logits,
                                       finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_TRY(require(logits, "logits"));
    if (!g.prepared()) {
      return Status(FINERMOE_ERROR_STATE, "the next token's logits are not computed: call finermoe_generation_prepare");
    }
    const uint64_t vocab = g.session()->model()->config().vocab_size;
    FM_TRY(require_range(static_cast<double>(n_logits), n_logits == vocab, "n_logits", "the size of the vocabulary"));
    FM_TRY(g.fetch_logits());  // probabilities are those of the model's own
    g.set_logits({logits, n_logits});
    return {};
  });
}

int32_t finermoe_generation_get_info(const finermoe_generation* generation, finermoe_generation_info* info,
                                     finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    finermoe_generation_info out{};
    out.finish_reason = static_cast<int32_t>(g.finish());
    out.prepared = g.prepared();
    out.status = g.check().code();
    out.n_prompt = g.n_prompt();
    out.n_generated = g.n_generated();
    out.n_kept = g.n_kept();
    out.tag = g.tag;
    out.prefill_seconds = g.prefill_seconds();
    out.decode_seconds = g.decode_seconds();
    out.n_drafted = g.n_drafted();
    out.n_accepted = g.n_accepted();
    return put_struct(out, info);
  });
}

int32_t finermoe_generation_set_tag(finermoe_generation* generation, uint64_t tag, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    g.tag = tag;
    return {};
  });
}

int32_t finermoe_generation_set_draft(finermoe_generation* generation, finermoe_model* model, size_t n_draft,
                                      finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_TRY(require_range(static_cast<double>(n_draft), n_draft <= most_drafts, "n_draft", "0 to 64"));
    return g.set_draft(model != nullptr ? model->model : nullptr, n_draft);
  });
}

int32_t finermoe_generation_get_error(const finermoe_generation* generation, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status { return g.failure(); });
}

int32_t finermoe_generation_save_memory(const finermoe_generation* generation, void* data, size_t capacity,
                                        size_t* needed, finermoe_error** error) {
  return on_generation(generation, error, [&](Generation& g) -> Status {
    FM_ASSIGN(const std::vector<std::byte> saved, g.save());
    return put<std::byte>(saved, static_cast<std::byte*>(data), capacity, needed);
  });
}

int32_t finermoe_generation_restore_memory(finermoe_session* session, const void* data, size_t size,
                                           finermoe_generation** generation, finermoe_error** error) {
  return create(session, generation, error, [&](const std::shared_ptr<Session>& s) -> Created {
    FM_TRY(require_array(data, size, "data"));
    return Generation::restore(s, bytes_of(data, size));
  });
}

int32_t finermoe_batch_create(finermoe_model* model, finermoe_batch** batch, finermoe_error** error) {
  return guarded(error, [&]() -> Status {
    FM_TRY(require(model, "model"));
    FM_TRY(model->model->runtime()->check_process());
    return give(batch, std::make_shared<Batch>(model->model));
  });
}
void finermoe_batch_close(finermoe_batch* batch) {
  if (batch) batch->batch->use.closed.store(true, std::memory_order_relaxed);
}
void finermoe_batch_free(finermoe_batch* batch) { delete batch; }

int32_t finermoe_batch_add(finermoe_batch* batch, finermoe_generation* generation, finermoe_error** error) {
  return on_batch(batch, error, [&](Batch& b) -> Status {
    FM_TRY(require(generation, "generation"));
    return b.add(generation->generation);
  });
}

int32_t finermoe_batch_remove(finermoe_batch* batch, finermoe_generation* generation, finermoe_error** error) {
  return on_batch(batch, error, [&](Batch& b) -> Status {
    FM_TRY(require(generation, "generation"));
    return b.remove(*generation->generation);
  });
}

int32_t finermoe_batch_step(finermoe_batch* batch, finermoe_cancel* cancel, size_t* n_active, finermoe_error** error) {
  return on_batch(batch, error, [&](Batch& b) -> Status {
    FM_TRY(require(n_active, "n_active"));
    FM_ASSIGN(*n_active, b.step(flag_of(cancel).get()));
    return {};
  });
}

int32_t finermoe_batch_next(finermoe_batch* batch, finermoe_cancel* cancel, uint64_t* tag, finermoe_event* event,
                            finermoe_error** error) {
  return on_batch(batch, error, [&](Batch& b) -> Status {
    FM_TRY(require(tag, "tag"));
    FM_TRY(require_struct(event));  // before a token is spent on it
    FM_ASSIGN(const Batch::Event made, b.next(flag_of(cancel).get()));
    *tag = made.tag;
    return put_event(*made.event, event);
  });
}
