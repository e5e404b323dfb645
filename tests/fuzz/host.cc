// The objects that a host calls, its arguments, and what it does with sessions.
#include "host.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fuzz {
namespace {

AnyModel open_one_of(size_t i) {
  AnyModel out;
  if (i == 0) out.model = open_model(dense_model, sizeof dense_model);
  if (i == 1) out.model = open_model(moe_model, sizeof moe_model);
  if (i == 2) out.model = open_model(small_model, sizeof small_model);
  HOLDS(out.model != nullptr);
  out.vocab_size = config_info(out.model.get()).vocab_size;
  return out;
}

}  // namespace

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
  // What is not computed yet is computed first, which a model that was closed refuses, and asking for the size is not.
  size_t needed = 0;
  run([&](auto** e) { return finermoe_session_save_memory(from.session.get(), nullptr, 0, &needed, e); });
  std::vector<char> data(needed);
  const int32_t code =
      run([&](auto** e) { return finermoe_session_save_memory(from.session.get(), data.data(), needed, &needed, e); });
  if (!ok(code)) {
    HOLDS(code == FINERMOE_ERROR_CLOSED || needed == 0);
    return;
  }
  const bool is_damaged = choices_.below(4) == 0 && !data.empty();
  if (is_damaged) data[choices_.byte() * data.size() / 256] ^= 1;
  const auto held = session_tokens(from.session.get()), before = session_tokens(to.session.get());
  const bool is_restored =
      ok(run([&](auto** e) { return finermoe_session_restore_memory(to.session.get(), data.data(), data.size(), e); }));
  HOLDS(!is_restored || !is_damaged);
  HOLDS(session_tokens(to.session.get()) == (is_restored ? held : before));
  if (is_restored) to.is_exact = to.is_exact && from.is_exact;
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

}  // namespace fuzz
