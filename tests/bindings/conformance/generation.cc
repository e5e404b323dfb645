// Kinds of rows: one request.
#include <algorithm>
#include <cmath>
#include <limits>

#include "runner.h"

namespace {

Json generate(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  Json tokens = Json::array(), logprobs = Json::array(), top = Json::array();
  std::string text;
  for (;;) {
    const finermoe_event event = next(generation.get());
    text.append(event.text, event.text_length);
    if (event.token >= 0) {
      tokens.push_back(event.token);
      logprobs.push_back(std::round(event.logprob * 1e6) / 1e6);
      top.push_back(Ids(event.top_ids, event.top_ids + event.n_top));
    }
    if (event.finish_reason == FINERMOE_FINISH_NONE) continue;
    Json out{{"tokens", tokens},
             {"text", text},
             {"finish_reason", finish_name(event.finish_reason)},
             {"logprobs", logprobs}};
    if (row.value("options", Json::object()).contains("top_logprobs")) out["top"] = top;
    return out;
  }
}

Json info(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  text_to_the_end(generation.get());
  const auto i = get<finermoe_generation_info>(
      [&](auto* out, auto** e) { return finermoe_generation_get_info(generation.get(), out, e); });
  return {{"n_prompt", i.n_prompt},   {"n_generated", i.n_generated}, {"n_kept", i.n_kept},
          {"n_drafted", i.n_drafted}, {"n_accepted", i.n_accepted},   {"finish_reason", finish_name(i.finish_reason)}};
}

Json options_info(const Json& row) {
  const auto model = open_row_model(row);
  const auto options = generation_options(model.get(), row["options"]);
  const auto i = get<finermoe_generation_options_info>(
      [&](auto* out, auto** e) { return finermoe_generation_options_get_info(options.get(), out, e); });
  return {{"ignore_eos", i.ignore_eos != 0},
          {"max_tokens", i.max_tokens},
          {"min_tokens", i.min_tokens},
          {"temperature", i.temperature},
          {"top_k", i.top_k},
          {"top_p", i.top_p},
          {"min_p", i.min_p},
          {"typical_p", i.typical_p},
          {"repetition_penalty", i.repetition_penalty},
          {"frequency_penalty", i.frequency_penalty},
          {"presence_penalty", i.presence_penalty},
          {"seed", i.seed},
          {"n_stop_tokens", i.n_stop_tokens}};
}

Json hook(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  Json tokens = Json::array();
  for (;;) {
    call([&](auto** e) { return finermoe_generation_prepare(generation.get(), nullptr, e); });
    auto logits = read<std::vector<float>>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(generation.get(), out, capacity, needed, e);
    });
    logits[argmax(logits)] = -std::numeric_limits<float>::infinity();
    call([&](auto** e) { return finermoe_generation_set_logits(generation.get(), logits.data(), logits.size(), e); });
    const finermoe_event event = next(generation.get());
    tokens.push_back(event.token);
    if (event.finish_reason != FINERMOE_FINISH_NONE) return {{"tokens", tokens}};
  }
}

Json append_in_the_middle(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  const Ids insert = row["insert"];
  Json tokens = Json::array();
  std::string text;
  for (size_t i = 0;; i++) {
    if (i == row["after"]) {
      call([&](auto** e) { return finermoe_generation_append(generation.get(), insert.data(), insert.size(), e); });
    }
    const finermoe_event event = next(generation.get());
    tokens.push_back(event.token);
    text.append(event.text, event.text_length);
    if (event.finish_reason != FINERMOE_FINISH_NONE) return {{"tokens", tokens}, {"text", text}};
  }
}

Json finish(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const auto generation = start(model.get(), session.get(), row);
  std::string text;
  for (size_t i = 0; i < row["after"]; i++) {
    const finermoe_event event = next(generation.get());
    text.append(event.text, event.text_length);
  }
  const auto event =
      get<finermoe_event>([&](auto* out, auto** e) { return finermoe_generation_finish(generation.get(), out, e); });
  text.append(event.text, event.text_length);
  return {{"text", text}, {"finish_reason", finish_name(event.finish_reason)}};
}

Json resume(const Json& row) {
  std::string text, session_bytes, request_bytes;
  Json tokens = Json::array();
  const auto take = [&](const finermoe_event& event) {
    text.append(event.text, event.text_length);
    if (event.token >= 0) tokens.push_back(event.token);
    return event.finish_reason;
  };
  {
    const auto model = open_row_model(row);
    const auto session = open_row_session(model.get(), row);
    const auto generation = start(model.get(), session.get(), row);
    for (size_t i = 0; i < row["after"]; i++) take(next(generation.get()));
    session_bytes = read<std::string>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_session_save_memory(session.get(), out, capacity, needed, e);
    });
    request_bytes = read<std::string>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_save_memory(generation.get(), out, capacity, needed, e);
    });
  }
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  call([&](auto** e) {
    return finermoe_session_restore_memory(session.get(), session_bytes.data(), session_bytes.size(), e);
  });
  const auto generation = create<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(session.get(), request_bytes.data(), request_bytes.size(), out, e);
  });
  if (row.contains("draft")) {
    const ModelHandle by = open_with_threads(example_model(row["draft"][0]));  // the request keeps it open
    call([&](auto** e) { return finermoe_generation_set_draft(generation.get(), by.get(), row["draft"][1], e); });
  }
  while (take(next(generation.get())) == FINERMOE_FINISH_NONE) continue;
  return {{"tokens", tokens}, {"text", text}};
}

Json go_on(const Json& row) {
  const auto model = open_row_model(row);
  const auto session = open_row_session(model.get(), row);
  const std::string first = text_to_the_end(start(model.get(), session.get(), row).get());
  const Json more{{"prompt", row["more"]}, {"no_special_tokens", true}, {"options", row["options"]}};
  return {{"texts", {first, text_to_the_end(start(model.get(), session.get(), more).get())}}};
}

Json sampler(const Json& row) {
  const auto options = generation_options(nullptr, row["options"]);
  const auto sampler = create<std::unique_ptr<finermoe_sampler, FreeWith<finermoe_sampler_free>>>(
      [&](auto** out, auto** e) { return finermoe_sampler_create(options.get(), out, e); });
  const Ids prompt = row["prompt"];
  const std::vector<float> logits = row["logits"];
  call([&](auto** e) { return finermoe_sampler_accept_prompt(sampler.get(), prompt.data(), prompt.size(), e); });
  Json tokens = Json::array();
  for (size_t i = 0; i < row["n"]; i++) {
    int32_t id = -1;
    call([&](auto** e) { return finermoe_sampler_choose(sampler.get(), logits.data(), logits.size(), &id, e); });
    call([&](auto** e) { return finermoe_sampler_accept(sampler.get(), id, e); });
    tokens.push_back(id);
  }
  return {{"tokens", tokens}};
}

}  // namespace

void add_generation(Behaviours& behaviours) {
  behaviours.insert({{"generate", generate},
                     {"info", info},
                     {"options_info", options_info},
                     {"hook", hook},
                     {"append_in_the_middle", append_in_the_middle},
                     {"finish", finish},
                     {"resume", resume},
                     {"continue", go_on},
                     {"sampler", sampler}});
}
