// Any sequence of calls over three models of different vocabularies. Input: bytes that choose the calls, the objects
// and the arguments; ids may be out of range, options may come from another model than the session.
#include <limits>

#include "host.h"

namespace fuzz {

void Host::create_options() {
  const size_t which = choices_.below(n_models);
  auto options = create<GenerationOptions>(
      [&](auto** out, auto** e) { return finermoe_generation_options_create(model(which).model.get(), out, e); });
  if (options != nullptr) options_[choices_.below(n_slots)] = std::move(options);
}

void Host::set_option() {
  finermoe_generation_options* options = any_options();
  if (options == nullptr) return;
  const uint8_t which = choices_.byte() % 13;
  const std::string text = which == 8 ? any_text() : "";
  run([&](auto** e) {
    switch (which) {
      case 0:
        return finermoe_generation_options_set_max_tokens(options, any_count(), e);
      case 1:
        return finermoe_generation_options_set_min_tokens(options, any_count(), e);
      case 2:
        return finermoe_generation_options_set_top_k(options, any_count(), e);
      case 3:
        return finermoe_generation_options_set_top_logprobs(options, any_count(), e);
      case 4:
        return finermoe_generation_options_add_logit_bias(options, any_id(), static_cast<float>(any_number()), e);
      case 5:
        return finermoe_generation_options_add_banned_token(options, any_id(), e);
      case 6:
        return finermoe_generation_options_add_stop_token(options, any_id(), e);
      case 7:
        return finermoe_generation_options_clear_stop_tokens(options, e);
      case 8:
        return finermoe_generation_options_add_stop_string(options, text.data(), text.size(), e);
      case 9:
        return finermoe_generation_options_set_ignore_eos(options, choices_.below(3), e);
      case 10:
        return finermoe_generation_options_set_lookup(options, static_cast<size_t>(choices_.byte() % 66), e);
      case 11:
        return finermoe_generation_options_set_draft(options, model(choices_.below(n_models)).model.get(),
                                                     static_cast<size_t>(choices_.byte() % 66), e);
      default:
        return finermoe_generation_options_set_show_special(options, choices_.below(3), e);
    }
  });
}

void Host::set_sampling() {
  finermoe_generation_options* options = any_options();
  if (options == nullptr) return;
  using Setter = int32_t (*)(finermoe_generation_options*, double, finermoe_error**);
  constexpr Setter setters[] = {finermoe_generation_options_set_temperature,
                                finermoe_generation_options_set_top_p,
                                finermoe_generation_options_set_min_p,
                                finermoe_generation_options_set_typical_p,
                                finermoe_generation_options_set_repetition_penalty,
                                finermoe_generation_options_set_frequency_penalty,
                                finermoe_generation_options_set_presence_penalty};
  const Setter setter = setters[choices_.below(std::size(setters))];
  const double value = any_number();
  run([&](auto** e) { return setter(options, value, e); });
  if (choices_.byte() == 255) run([&](auto** e) { return finermoe_generation_options_set_seed(options, 7, e); });
}

void Host::create_generation() {
  AnySession& any = any_session();
  if (any.session == nullptr) return;
  const uint8_t how = choices_.byte() % 8;
  const finermoe_generation_options* options = how < 4 ? nullptr : any_options();
  AnyGeneration out;
  out.vocab_size = models_[any.model].vocab_size;
  out.generation = create<Generation>([&](auto** handle, auto** e) {
    if (how % 4 == 3) {
      const uint32_t flags = choices_.byte() % 32;
      return finermoe_generation_create_chat(any.session.get(), options, chat_.get(), flags, handle, e);
    }
    if (how % 4 == 2) {
      const std::string text = any_text();
      return finermoe_generation_create_text(any.session.get(), options, text.data(), text.size(), how % 2, handle, e);
    }
    const auto ids = any_ids();
    return finermoe_generation_create(any.session.get(), options, ids.data(), ids.size(), handle, e);
  });
  if (out.generation != nullptr) any_generation() = std::move(out);
  check(any);
}

void Host::use_generation() {
  AnyGeneration& any = any_generation();
  if (any.generation == nullptr) return;
  const auto state = [&] {
    return info<finermoe_generation_info>(
        [&](auto* out, auto** e) { return finermoe_generation_get_info(any.generation.get(), out, e); });
  };
  for (size_t n = 1 + choices_.below(3); n > 0; n--) {
    finermoe_event event;
    const int32_t code = next(any.generation.get(), any.vocab_size, event, any_cancel());
    if (code == FINERMOE_ERROR_CLOSED || code == FINERMOE_ERROR_CANCELLED) return;
    const auto about = state();
    if (ok(code)) HOLDS(about.finish_reason == event.finish_reason);
    if (ok(code) && about.finish_reason != FINERMOE_FINISH_NONE) {  // and so it stays
      finermoe_event after;
      if (ok(next(any.generation.get(), any.vocab_size, after))) {
        HOLDS(after.finish_reason == about.finish_reason && after.token == -1 && after.text_length == 0);
      }
    }
  }
}

void Host::steer_generation() {
  AnyGeneration& any = any_generation();
  if (any.generation == nullptr) return;
  const auto ids = any_ids();
  run([&](auto** e) { return finermoe_generation_append(any.generation.get(), ids.data(), ids.size(), e); });
  run([&](auto** e) { return finermoe_generation_get_error(any.generation.get(), e); });
  if (choices_.below(8) == 0) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    if (ok(run([&](auto** e) { return finermoe_generation_finish(any.generation.get(), &event, e); }))) {
      HOLDS(event.token == -1 && event.finish_reason != FINERMOE_FINISH_NONE);
      check_event(event, any.vocab_size);
    }
  }
}

void Host::save_generation() {
  AnyGeneration& any = any_generation();
  AnySession& on = any_session();
  if (any.generation == nullptr || on.session == nullptr) return;
  int32_t code;
  auto data =
      read<char>([&](auto... rest) { return finermoe_generation_save_memory(any.generation.get(), rest...); }, &code);
  const bool is_damaged = choices_.below(4) == 0 && !data.empty();
  if (is_damaged) data[choices_.byte() * data.size() / 256] ^= 1;
  AnyGeneration out;
  out.vocab_size = models_[on.model].vocab_size;
  out.generation = create<Generation>([&](auto** handle, auto** e) {
    return finermoe_generation_restore_memory(on.session.get(), data.data(), data.size(), handle, e);
  });
  HOLDS(out.generation == nullptr || !is_damaged);
  if (out.generation != nullptr) any_generation() = std::move(out);
}

void Host::use_logits() {
  AnyGeneration& any = any_generation();
  if (any.generation == nullptr) return;
  if (choices_.below(2) == 0) {
    run([&](auto** e) { return finermoe_generation_prepare(any.generation.get(), any_cancel(), e); });
  }
  int32_t code;
  auto logits =
      read<float>([&](auto... rest) { return finermoe_generation_get_logits(any.generation.get(), rest...); }, &code);
  HOLDS(!ok(code) || logits.size() == any.vocab_size);
  if (logits.empty()) logits.resize(choices_.byte());
  for (size_t n = choices_.below(4); n > 0; n--) {
    if (!logits.empty()) logits[choices_.byte() % logits.size()] = static_cast<float>(any_number());
  }
  run([&](auto** e) { return finermoe_generation_set_logits(any.generation.get(), logits.data(), logits.size(), e); });
}

void Host::use_batch() {
  Batch& batch = batches_[choices_.below(n_slots)];
  const uint8_t how = choices_.byte() % 8;
  if (batch == nullptr) {
    const size_t which = choices_.below(n_models);
    batch =
        create<Batch>([&](auto** out, auto** e) { return finermoe_batch_create(model(which).model.get(), out, e); });
  } else if (how < 3) {
    AnyGeneration& any = any_generation();
    if (any.generation != nullptr) {
      run([&](auto** e) { return finermoe_batch_add(batch.get(), any.generation.get(), e); });
    }
  } else if (how == 3) {
    AnyGeneration& any = any_generation();
    if (any.generation != nullptr) {
      run([&](auto** e) { return finermoe_batch_remove(batch.get(), any.generation.get(), e); });
    }
  } else if (how == 4) {
    finermoe_event event{};
    event.struct_size = sizeof event;
    uint64_t tag = 1000;
    if (ok(run([&](auto** e) { return finermoe_batch_next(batch.get(), any_cancel(), &tag, &event, e); }))) {
      HOLDS(tag == 0);
      HOLDS(event.token >= -1 && event.text[event.text_length] == '\0');
    } else {
      HOLDS(tag == 1000);
    }
  } else {
    size_t n_active = 1000;
    const bool stepped =
        ok(run([&](auto** e) { return finermoe_batch_step(batch.get(), any_cancel(), &n_active, e); }));
    HOLDS(stepped ? n_active < 1000 : n_active == 1000);
  }
}

void Host::use_trace() {
  Trace& trace = traces_[choices_.below(n_slots)];
  const size_t which = choices_.below(n_models);
  if (trace == nullptr) {
    const uint32_t what = choices_.below(10);
    trace = create<Trace>(
        [&](auto** out, auto** e) { return finermoe_trace_create(model(which).model.get(), what, out, e); });
    return;
  }
  AnySession& any = any_session();
  if (any.session != nullptr) {
    run([&](auto** e) {
      return finermoe_session_set_trace(any.session.get(), choices_.below(4) == 0 ? nullptr : trace.get(), e);
    });
  }
  const auto about =
      info<finermoe_trace_info>([&](auto* out, auto** e) { return finermoe_trace_get_info(trace.get(), out, e); });
  const size_t layer = choices_.below(3);
  for (int32_t expert :
       read<int32_t>([&](auto... rest) { return finermoe_trace_experts(trace.get(), layer, rest...); })) {
    HOLDS(expert >= 0 && static_cast<size_t>(expert) < about.n_experts);
  }
  read<float>([&](auto... rest) { return finermoe_trace_weights(trace.get(), layer, rest...); });
  read<int32_t>([&](auto... rest) { return finermoe_trace_groups(trace.get(), layer, rest...); });
  read<float>([&](auto... rest) { return finermoe_trace_logits(trace.get(), layer, rest...); });
  read<uint64_t>([&](auto... rest) { return finermoe_trace_usage(trace.get(), layer, rest...); });
  double loss = 0;
  run([&](auto** e) { return finermoe_trace_balance_loss(trace.get(), layer, &loss, e); });
  if (choices_.byte() == 255) run([&](auto** e) { return finermoe_trace_clear(trace.get(), e); });
}

void Host::use_chat() {
  constexpr const char* roles[] = {"system", "user", "assistant", "tool"};
  const std::string text = any_text();
  if (choices_.below(8) == 0) {
    chat_ = must<Chat>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  }
  run([&](auto** e) { return finermoe_chat_add(chat_.get(), roles[choices_.below(4)], text.data(), text.size(), e); });
  const size_t count = finermoe_chat_count(chat_.get()), index = choices_.below(5);
  finermoe_chat_message message{};
  message.struct_size = sizeof message;
  const bool is_there = ok(run([&](auto** e) { return finermoe_chat_get(chat_.get(), index, &message, e); }));
  HOLDS(is_there == (index < count));
  const bool is_set =
      ok(run([&](auto** e) { return finermoe_chat_set(chat_.get(), index, text.data(), text.size(), e); }));
  HOLDS(is_set == is_there);
  if (choices_.below(8) == 0) run([&](auto** e) { return finermoe_chat_truncate(chat_.get(), index, e); });
  if (choices_.below(8) == 0) run([&](auto** e) { return finermoe_chat_remove(chat_.get(), index, count, e); });
}

void Host::free_something() {
  const uint8_t which = choices_.byte() % 6;
  const size_t slot = choices_.below(n_slots);
  if (which == 0) models_[slot % n_models].model = nullptr;  // its sessions keep it alive
  if (which == 1) sessions_[slot].session = nullptr;
  if (which == 2) options_[slot] = nullptr;
  if (which == 3) generations_[slot].generation = nullptr;
  if (which == 4) batches_[slot] = nullptr;
  if (which == 5) traces_[slot] = nullptr;
}

void Host::close_something() {
  const uint8_t which = choices_.byte() % 8;
  const size_t slot = choices_.below(n_slots);
  if (which == 0) finermoe_model_close(models_[slot % n_models].model.get());
  if (which == 1 || which == 2) finermoe_session_close(sessions_[slot].session.get());
  if (which == 3 || which == 4) finermoe_generation_close(generations_[slot].generation.get());
  if (which == 5) finermoe_batch_close(batches_[slot].get());
}

void Host::call() {
  using Call = void (Host::*)();
  constexpr Call calls[] = {&Host::create_session,
                            &Host::create_session,
                            &Host::append,
                            &Host::append,
                            &Host::score,
                            &Host::change_session,
                            &Host::rearrange_session,
                            &Host::save_session,
                            &Host::create_options,
                            &Host::set_option,
                            &Host::set_option,
                            &Host::set_sampling,
                            &Host::create_generation,
                            &Host::create_generation,
                            &Host::use_generation,
                            &Host::use_generation,
                            &Host::steer_generation,
                            &Host::save_generation,
                            &Host::use_logits,
                            &Host::use_batch,
                            &Host::use_batch,
                            &Host::use_batch,
                            &Host::use_trace,
                            &Host::use_chat,
                            &Host::free_something,
                            &Host::close_something};
  (this->*calls[choices_.below(std::size(calls))])();
}

}  // namespace fuzz

using namespace fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  {
    Choices choices(data, size);
    Host host(choices);
    for (size_t n = 0; n < most_calls && !choices.empty(); n++) host.call();
    host.compute_again();
  }
  HOLDS(memory_used() == 0);
  n_completed++;
  return 0;
}
