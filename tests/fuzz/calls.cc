// Any sequence of calls over three models of different vocabularies. Input: bytes that choose the calls, the objects
// and the arguments; ids may be out of range, options may come from another model than the session.
#include <algorithm>
#include <cmath>
#include <limits>

#include "support.h"

using namespace fuzz;

namespace {

constexpr size_t n_models = 3, n_slots = 4, longest_context = 24, most_calls = 300;

struct AnyModel {
  Model model;
  uint64_t vocab_size = 0;
};
struct AnySession {
  Session session;
  size_t model = 0;
  bool is_exact = false;  // float32 throughout: its logits can be computed again
};
struct AnyGeneration {
  Generation generation;
  uint64_t vocab_size = 0;
};

// The objects of one input, and what can be done with them.
class Host {
 public:
  explicit Host(Choices& choices) : choices_(choices) {
    cancel_ = must<Cancel>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
    chat_ = must<Chat>([](auto** out, auto** e) { return finermoe_chat_create(out, e); });
  }

  void call();
  void compute_again();

 private:
  AnyModel& model(size_t i);
  AnySession& any_session() { return sessions_[choices_.below(n_slots)]; }
  AnyGeneration& any_generation() { return generations_[choices_.below(n_slots)]; }
  finermoe_generation_options* any_options() { return options_[choices_.below(n_slots)].get(); }
  // Raised now and then.
  finermoe_cancel* any_cancel() {
    const uint8_t choice = choices_.byte();
    finermoe_cancel_reset(cancel_.get());
    if (choice == 255) finermoe_cancel_request(cancel_.get());
    return choice < 128 ? nullptr : cancel_.get();
  }
  int32_t any_id();
  std::vector<int32_t> any_ids();
  double any_number();
  std::string any_text();
  size_t any_count();

  void create_session();
  void append();
  void score();
  void change_session();
  void rearrange_session();
  void save_session();
  void create_options();
  void set_option();
  void set_sampling();
  void create_generation();
  void use_generation();
  void steer_generation();
  void save_generation();
  void use_logits();
  void use_batch();
  void use_trace();
  void use_chat();
  void free_something();
  void close_something();
  void check(const AnySession& any);

  Choices& choices_;
  AnyModel models_[n_models];
  AnySession sessions_[n_slots];
  GenerationOptions options_[n_slots];
  AnyGeneration generations_[n_slots];
  Batch batches_[n_slots];
  Trace traces_[n_slots];
  Cancel cancel_;
  Chat chat_;
};

AnyModel open_one_of(size_t i) {
  AnyModel out;
  if (i == 0) out.model = open_model(dense_model, sizeof dense_model);
  if (i == 1) out.model = open_model(moe_model, sizeof moe_model);
  if (i == 2) out.model = open_model(small_model, sizeof small_model);
  HOLDS(out.model != nullptr);
  out.vocab_size = config_info(out.model.get()).vocab_size;
  return out;
}

AnyModel& Host::model(size_t i) {
  if (models_[i].model == nullptr) models_[i] = open_one_of(i);
  return models_[i];
}

int32_t Host::any_id() {
  const uint8_t choice = choices_.byte();
  switch (choice) {
    case 255:
      return -1;
    case 254:
      return std::numeric_limits<int32_t>::max();
    case 253:
      return std::numeric_limits<int32_t>::min();
    case 252:
      return 50000000;
    case 251:
      return 285;
    case 250:
      return 288;
    case 249:
      return 16;
    default:
      return choice < 200 ? choice % 6 : choice;
  }
}
std::vector<int32_t> Host::any_ids() {
  std::vector<int32_t> ids(choices_.byte() % 9);
  for (int32_t& id : ids) id = any_id();
  return ids;
}
double Host::any_number() {
  constexpr double values[] = {0,
                               1,
                               -1,
                               0.5,
                               0.9,
                               1.1,
                               2,
                               1e-3,
                               5e-324,
                               1e-300,
                               1e308,
                               1e30,
                               -0.5,
                               -1e308,
                               64,
                               3,
                               std::numeric_limits<double>::infinity(),
                               -std::numeric_limits<double>::infinity(),
                               std::numeric_limits<double>::quiet_NaN()};
  return values[choices_.below(std::size(values))];
}
size_t Host::any_count() {
  const uint8_t choice = choices_.byte();
  if (choice == 255) return SIZE_MAX;
  if (choice == 254) return SIZE_MAX / 2;
  if (choice == 253) return uint64_t{1} << 32;
  return choice < 128 ? choice % 8 : choice;
}
std::string Host::any_text() {
  std::string text;
  for (size_t n = choices_.below(12); n > 0; n--) text += static_cast<char>(choices_.byte());
  return choices_.below(4) == 0 ? text + "<|im_end|>" : text;
}

void Host::create_session() {
  const size_t which = choices_.below(n_models);
  const auto options =
      must<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  run([&](auto** e) {
    return finermoe_session_options_set_context_length(options.get(), choices_.below(longest_context + 1), e);
  });
  run([&](auto** e) { return finermoe_session_options_set_chunk(options.get(), any_count(), e); });
  const uint8_t kind = choices_.byte();
  const int32_t dtype = kind < 128 ? FINERMOE_DTYPE_F32 : kind % 6 - 1, precision = kind % 32 == 5 ? 1 : 0;
  run([&](auto** e) { return finermoe_session_options_set_kv_dtype(options.get(), dtype, e); });
  run([&](auto** e) { return finermoe_session_options_set_precision(options.get(), precision, e); });
  AnySession out;
  out.session = create<Session>([&](auto** handle, auto** e) {
    return finermoe_session_create(model(which).model.get(), options.get(), handle, e);
  });
  if (out.session == nullptr) return;
  out.model = which;
  const auto about = session_info(out.session.get());
  out.is_exact = about.kv_dtype == FINERMOE_DTYPE_F32 && about.precision == FINERMOE_PRECISION_EXACT;
  any_session() = std::move(out);
}

// A session's tokens are of its vocabulary and fit. One that is closed says only that.
void Host::check(const AnySession& any) {
  int32_t code;
  const auto tokens = session_tokens(any.session.get(), &code);
  if (!ok(code)) {
    HOLDS(code == FINERMOE_ERROR_CLOSED);
    return;
  }
  const auto about = session_info(any.session.get());
  HOLDS(tokens.size() == about.length && about.length <= about.context_length);
  for (int32_t id : tokens) HOLDS(id >= 0 && static_cast<uint64_t>(id) < models_[any.model].vocab_size);
}

void Host::append() {
  AnySession& any = any_session();
  if (any.session == nullptr) return;
  int32_t readable;
  auto before = session_tokens(any.session.get(), &readable);
  const auto ids = any_ids();
  const int32_t rows = static_cast<int32_t>(choices_.below(4)) - (choices_.byte() == 255 ? 1 : 0);
  const int32_t code = run([&](auto** e) {
    return finermoe_session_append(any.session.get(), ids.data(), ids.size(), rows, any_cancel(), e);
  });
  if (!ok(readable)) {
    HOLDS(!ok(code));
    return;
  }
  if (ok(code)) {
    before.insert(before.end(), ids.begin(), ids.end());
    const size_t kept = rows == FINERMOE_LOGITS_ALL ? ids.size() : rows == FINERMOE_LOGITS_LAST && !ids.empty() ? 1 : 0;
    HOLDS(session_info(any.session.get()).n_logits == kept);
    for (size_t row = 0; row <= kept; row++) {
      HOLDS(session_logits(any.session.get(), row).size() == (row < kept ? models_[any.model].vocab_size : 0));
    }
  }
  if (code != FINERMOE_ERROR_CANCELLED) HOLDS(session_tokens(any.session.get()) == before);
  check(any);
}

void Host::change_session() {
  AnySession& any = any_session();
  if (any.session == nullptr) return;
  finermoe_session* session = any.session.get();
  const uint8_t how = choices_.byte() % 4;
  if (how == 0) {
    const size_t length = any_count();
    if (ok(run([&](auto** e) { return finermoe_session_truncate(session, length, e); }))) {
      HOLDS(session_info(session).length == length);
    }
  } else if (how == 1) {
    run([&](auto** e) { return finermoe_session_reset(session, e); });
  } else if (how == 2) {
    auto fork = create<Session>([&](auto** out, auto** e) { return finermoe_session_fork(session, out, e); });
    if (fork == nullptr) return;
    HOLDS(session_tokens(fork.get()) == session_tokens(session));
    AnySession other{std::move(fork), any.model, any.is_exact};
    any_session() = std::move(other);
    return;
  } else {
    const auto ids = any_ids();
    std::vector<size_t> rows(choices_.below(4));
    for (size_t& row : rows) row = choices_.below(10);
    run([&](auto** e) {
      return finermoe_session_append_rows(session, ids.data(), ids.size(), rows.data(), rows.size(), any_cancel(), e);
    });
  }
  check(any);
}

void Host::score() {
  AnySession& any = any_session();
  if (any.session == nullptr) return;
  int32_t readable;
  auto before = session_tokens(any.session.get(), &readable);
  const auto ids = any_ids();
  std::vector<float> logprobs(ids.size(), 77);
  std::vector<int32_t> likeliest(ids.size(), -77);
  size_t needed = 0;
  const int32_t code = run([&](auto** e) {
    return finermoe_session_score(any.session.get(), ids.data(), ids.size(), any_cancel(), logprobs.data(),
                                  likeliest.data(), ids.size(), &needed, e);
  });
  if (!ok(readable)) {
    HOLDS(!ok(code));
    return;
  }
  for (size_t i = 0; i < ids.size(); i++) {
    if (!ok(code)) {
      HOLDS(logprobs[i] == 77 && likeliest[i] == -77);
    } else if (i == 0 && before.empty()) {
      HOLDS(std::isnan(logprobs[i]) && likeliest[i] == -1);
    } else {
      HOLDS(logprobs[i] <= 1e-5f && likeliest[i] >= 0);
    }
  }
  if (ok(code)) before.insert(before.end(), ids.begin(), ids.end());
  HOLDS(session_tokens(any.session.get()) == before);
}

void Host::rearrange_session() {
  AnySession& any = any_session();
  if (any.session == nullptr) return;
  finermoe_session* session = any.session.get();
  const auto before = session_tokens(session);
  const uint8_t how = choices_.byte() % 3;
  if (how == 0) {
    const auto ids = any_ids();
    size_t n_kept = 0;
    if (ok(run([&](auto** e) { return finermoe_session_keep_prefix(session, ids.data(), ids.size(), &n_kept, e); }))) {
      const auto kept = session_tokens(session);
      HOLDS(kept.size() == n_kept && n_kept <= before.size() && n_kept <= ids.size());
      HOLDS(std::equal(kept.begin(), kept.end(), ids.begin()) && std::equal(kept.begin(), kept.end(), before.begin()));
      HOLDS(n_kept == before.size() || n_kept == ids.size() || before[n_kept] != ids[n_kept]);
    }
  } else if (how == 1) {
    const size_t begin = any_count(), end = any_count();
    if (ok(run([&](auto** e) { return finermoe_session_remove(session, begin, end, e); }))) {
      HOLDS(begin <= end && end <= before.size());
      HOLDS(session_tokens(session).size() == before.size() - (end - begin));
      any.is_exact = any.is_exact && (begin == end || end == before.size());
    }
  } else {
    const size_t n = any_count();
    if (ok(run([&](auto** e) { return finermoe_session_set_context_length(session, n, e); }))) {
      HOLDS(n == 0 || session_info(session).context_length == n);
      HOLDS(session_tokens(session) == before);
    }
  }
  check(any);
}

// From one session to another, whole or damaged.
void Host::save_session() {
  AnySession &from = any_session(), &to = any_session();
  if (from.session == nullptr || to.session == nullptr) return;
  int32_t code;
  auto data =
      read<char>([&](auto... rest) { return finermoe_session_save_memory(from.session.get(), rest...); }, &code);
  const bool is_damaged = choices_.below(4) == 0 && !data.empty();
  if (is_damaged) data[choices_.byte() * data.size() / 256] ^= 1;
  const auto held = session_tokens(from.session.get()), before = session_tokens(to.session.get());
  const bool is_restored =
      ok(run([&](auto** e) { return finermoe_session_restore_memory(to.session.get(), data.data(), data.size(), e); }));
  HOLDS(!is_restored || !is_damaged);
  HOLDS(session_tokens(to.session.get()) == (is_restored ? held : before));
  if (is_restored) to.is_exact = to.is_exact && from.is_exact;
}

void Host::create_options() {
  const size_t which = choices_.below(n_models);
  auto options = create<GenerationOptions>(
      [&](auto** out, auto** e) { return finermoe_generation_options_create(model(which).model.get(), out, e); });
  if (options != nullptr) options_[choices_.below(n_slots)] = std::move(options);
}

void Host::set_option() {
  finermoe_generation_options* options = any_options();
  if (options == nullptr) return;
  const uint8_t which = choices_.byte() % 11;
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

// Whatever was done to a session, the logits after its tokens are those of a new session with the same tokens.
void Host::compute_again() {
  for (AnySession& any : sessions_) {
    if (any.session == nullptr || !any.is_exact) continue;
    const auto tokens = session_tokens(any.session.get());
    if (tokens.empty()) continue;
    HOLDS(ok(run([&](auto** e) { return finermoe_session_truncate(any.session.get(), tokens.size() - 1, e); })));
    const int32_t code = run([&](auto** e) {
      return finermoe_session_append(any.session.get(), &tokens.back(), 1, FINERMOE_LOGITS_LAST, nullptr, e);
    });
    HOLDS(ok(code) || code == FINERMOE_ERROR_CLOSED);  // its model was
    if (!ok(code)) continue;
    const AnyModel reopened = open_one_of(any.model);
    const Session again = open_session(reopened.model.get(), tokens.size());
    HOLDS(ok(run([&](auto** e) {
      return finermoe_session_append(again.get(), tokens.data(), tokens.size(), FINERMOE_LOGITS_LAST, nullptr, e);
    })));
    const auto found = session_logits(any.session.get(), 0), expected = session_logits(again.get(), 0);
    HOLDS(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); i++) HOLDS(std::abs(found[i] - expected[i]) <= 1e-4f);
  }
}

}  // namespace

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
