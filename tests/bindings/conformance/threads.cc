// Kinds of rows: cancelling, closing, several threads.
#include <algorithm>
#include <set>
#include <thread>

#include "runner.h"

namespace {

CancelHandle new_cancel() {
  return create<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
}

// Raised from a progress callback when three tokens of the prompt are computed.
int32_t cancel_third(void* user, const char*, uint64_t done, uint64_t) {
  if (done == 3) finermoe_cancel_request(static_cast<finermoe_cancel*>(user));
  return 0;
}

Json cancel(const Json& row) {
  const auto cancel = new_cancel();
  const bool in_prefill = row["where"] == "prefill";
  const auto model = open_row_model(row);
  const auto options = session_options(row);
  if (in_prefill) {
    call([&](auto** e) { return finermoe_session_options_set_chunk(options.get(), 1, e); });
    call([&](auto** e) { return finermoe_session_options_set_progress(options.get(), cancel_third, cancel.get(), e); });
  }
  const auto session = create<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model.get(), options.get(), out, e); });
  const auto generation = start(model.get(), session.get(), row);
  std::string text, code;
  for (size_t events = 0; code.empty(); events++) {
    if (!in_prefill && events == 3) std::thread([&] { finermoe_cancel_request(cancel.get()); }).join();
    try {
      const finermoe_event event = next(generation.get(), cancel.get());
      text.append(event.text, event.text_length);
    } catch (const Failed& failed) {
      code = finermoe_status_name(failed.code);
    }
  }
  finermoe_cancel_reset(cancel.get());
  return {{"code", code}, {"text", text + text_to_the_end(generation.get())}};
}

Json cancelled_before(const Json& row) {
  const auto cancel = new_cancel();
  finermoe_cancel_request(cancel.get());
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  const std::string code = code_of([&] { next(generation.get(), cancel.get()); });
  finermoe_cancel_reset(cancel.get());
  return {{"code", code}, {"text", text_to_the_end(generation.get(), cancel.get())}};
}

// What a request that would go on and on ends with when `close` is called on another thread after three events.
template <class Close>
std::string closed_while_running(finermoe_model* model, finermoe_session* session, Close&& close) {
  const Json endless{{"prompt", "A ship"}, {"options", {{"max_tokens", 0}, {"ignore_eos", true}}}};
  const auto generation = start(model, session, endless);
  std::thread closing;
  const std::string code = code_of([&] {
    for (size_t events = 0;; events++) {
      if (events == 3) closing = std::thread(close);
      if (next(generation.get()).finish_reason != FINERMOE_FINISH_NONE) return;
    }
  });
  closing.join();
  return code;
}
std::string text_on(finermoe_model* model, const Json& request) {
  const auto session = open_row_session(model);
  return text_to_the_end(start(model, session.get(), request).get());
}
Json close_session(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get());
  const std::string code =
      closed_while_running(model.get(), session.get(), [&] { finermoe_session_close(session.get()); });
  return {{"code", code}, {"other", text_on(model.get(), row["request"])}};
}
Json close_model(const Json& row) {
  const auto model = open_row_model(row), other = open_row_model(row);
  const auto session = open_row_session(model.get());
  const std::string code = closed_while_running(model.get(), session.get(), [&] { finermoe_model_close(model.get()); });
  return {{"code", code}, {"other", text_on(other.get(), row["request"])}};
}

Json closed(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get());
  const auto generation = start(model.get(), session.get(), {{"prompt", "A ship"}});
  const auto batch =
      create<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
  call([&](auto** e) { return finermoe_batch_add(batch.get(), generation.get(), e); });
  const std::string object = row["object"];
  const std::string code = code_of([&] {
    if (object == "model") finermoe_model_close(model.get());
    if (object == "session") finermoe_session_close(session.get());
    if (object == "generation") finermoe_generation_close(generation.get());
    if (object == "batch") finermoe_batch_close(batch.get());
    size_t active = 0;
    if (object == "model" || object == "session") append(session.get(), {1});
    if (object == "generation") next(generation.get());
    if (object == "batch") call([&](auto** e) { return finermoe_batch_step(batch.get(), nullptr, &active, e); });
  });
  return {{"code", code}};
}

Json close_twice(const Json& row) {
  for (const bool reversed : {false, true}) {
    const auto model = open_row_model(row);
    const auto session = open_row_session(model.get());
    const auto generation = start(model.get(), session.get(), {{"prompt", "A ship"}});
    const auto batch =
        create<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model.get(), out, e); });
    for (int twice = 0; twice < 2; twice++) {
      if (reversed) finermoe_batch_close(batch.get());
      if (reversed) finermoe_generation_close(generation.get());
      finermoe_session_close(session.get());
      finermoe_model_close(model.get());
      if (!reversed) finermoe_generation_close(generation.get());
      if (!reversed) finermoe_batch_close(batch.get());
    }
  }
  return {{"closed", true}};
}

Json two_models(const Json& row) {
  std::vector<ModelHandle> models;
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> generations;
  for (const std::string name : row["models"]) {
    models.push_back(open_with_threads(example_model(name)));
    sessions.push_back(open_row_session(models.back().get()));
    generations.push_back(start(models.back().get(), sessions.back().get(), row));
  }
  std::vector<std::string> texts(models.size());
  std::vector<bool> running(models.size(), true);
  while (std::find(running.begin(), running.end(), true) != running.end()) {
    for (size_t i = 0; i < models.size(); i++) {
      if (!running[i]) continue;
      const finermoe_event event = next(generations[i].get());
      texts[i].append(event.text, event.text_length);
      running[i] = event.finish_reason == FINERMOE_FINISH_NONE;
    }
  }
  return {{"texts", texts}};
}

Json many_sessions(const Json& row) {
  const size_t n = row["n"], n_threads = 4;
  const auto model = open_row_model(row);
  std::vector<SessionHandle> sessions;
  for (size_t i = 0; i < n; i++) sessions.push_back(open_row_session(model.get(), row));
  std::vector<std::string> texts(n);
  std::vector<std::thread> threads;
  for (size_t t = 0; t < n_threads; t++) {
    threads.emplace_back([&, t] {
      for (size_t i = t; i < n; i += n_threads) {
        Json request = row;
        request["options"]["seed"] = i;
        texts[i] = text_to_the_end(start(model.get(), sessions[i].get(), request).get());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  const std::set<std::string> distinct(texts.begin(), texts.end());
  return {{"texts", distinct}, {"n_distinct", distinct.size()}};
}

Json busy(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get());
  const auto generation = start(model.get(), session.get(), {{"prompt", "A ship"}});
  struct Second {
    finermoe_session* session;
    std::string code;
  } second{session.get(), ""};
  // While the session computes, which is when progress is told, a second thread uses it.
  const auto use = [](void* user, const char*, uint64_t, uint64_t) -> int32_t {
    auto& by_other = *static_cast<Second*>(user);
    std::thread([&] { by_other.code = code_of([&] { append(by_other.session, {1}); }); }).join();
    return 0;
  };
  call([&](auto** e) { return finermoe_session_set_progress(session.get(), use, &second, e); });
  next(generation.get());
  return {{"busy", second.code == "FINERMOE_ERROR_BUSY"}};
}

}  // namespace

void add_threads(Behaviours& behaviours) {
  behaviours.insert({{"cancel", cancel},
                     {"cancelled_before", cancelled_before},
                     {"close_session", close_session},
                     {"close_model", close_model},
                     {"closed", closed},
                     {"close_twice", close_twice},
                     {"two_models", two_models},
                     {"many_sessions", many_sessions},
                     {"busy", busy}});
}
