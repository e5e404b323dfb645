// Drafts looked up in the text: the tokens are those of a request without, whatever the model, the options and the
// moment at which the host does something else.
#include <openssl/sha.h>

#include <cstring>
#include <filesystem>
#include <functional>
#include <map>

#include "../support/changed_model.h"
#include "../support/temporary_directory.h"
#include "held_tokens.h"

namespace {

namespace fs = std::filesystem;

finermoe_generation_info info_of(finermoe_generation* generation) {
  finermoe_generation_info info{};
  info.struct_size = sizeof info;
  EXPECT_DONE(finermoe_generation_get_info(generation, &info, e));
  return info;
}

using OptionSetter = std::function<void(finermoe_generation_options*)>;

GenerationOptions options_with(finermoe_model* model, size_t n_draft, const OptionSetter& setup = {}) {
  auto options = generation_options(model);
  EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
  EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), 60, e));
  EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), 1, e));
  if (setup) setup(options.get());
  EXPECT_DONE(finermoe_generation_options_set_lookup(options.get(), n_draft, e));
  return options;
}

SessionHandle open_in(finermoe_model* model, int32_t precision, int32_t kv_dtype, size_t context = 600) {
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_context_length(options.get(), context, e));
  EXPECT_DONE(finermoe_session_options_set_kv_dtype(options.get(), kv_dtype, e));
  EXPECT_DONE(finermoe_session_options_set_precision(options.get(), precision, e));
  return make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model, options.get(), out, e); });
}

// Texts that a small model goes on with in circles, and a long one, so that attention is divided into parts.
std::vector<Ids> prompts() {
  Ids circle, longer;
  for (size_t i = 0; i < 30; i++) circle.push_back(static_cast<int32_t>(300 + i % 5));
  for (size_t i = 0; i < 250; i++) longer.push_back(static_cast<int32_t>(270 + i * 37 % 800));
  longer.insert(longer.end(), longer.begin(), longer.begin() + 40);
  return {{732, 260, 2814, 492}, {1739, 400, 654, 311, 750, 11, 541}, circle, longer};
}

void expect_equal(const Generated& found, const Generated& expected, const std::string& what) {
  EXPECT_EQ(found.ids, expected.ids) << what;
  EXPECT_EQ(found.text, expected.text) << what;
  EXPECT_EQ(found.finish, expected.finish) << what;
  ASSERT_EQ(found.logprobs.size(), expected.logprobs.size()) << what;
  EXPECT_EQ(std::memcmp(found.logprobs.data(), expected.logprobs.data(), found.logprobs.size() * sizeof(float)), 0)
      << what;
}

// Elsewhere than on the CPU there are none.
bool drafts() { return test_device() == nullptr && test_expert_device() == nullptr; }

class Lookup : public HeldTokens {
 protected:
  static std::string quantized(const std::string& source, int32_t dtype) {
    static const TemporaryDirectory folder;
    const std::string out = folder.path + "/" + fs::path(source).filename().string() + std::to_string(dtype);
    if (fs::exists(out)) return out;
    finermoe_quantize_options* options = nullptr;
    EXPECT_DONE(finermoe_quantize_options_create(dtype, &options, e));
    EXPECT_DONE(finermoe_quantize_run(source.c_str(), out.c_str(), options, nullptr, e));
    finermoe_quantize_options_free(options);
    return out;
  }

  const Ids repeating_ = prompts()[0];
  GenerationHandle begin(finermoe_session* on, size_t n_draft, const OptionSetter& setup = {}) {
    return generate(on, options_with(model.get(), n_draft, setup).get(), repeating_);
  }
  // Advances until tokens that are computed ahead are left.
  void advance_to_drafts(finermoe_generation* generation, Generated& out) {
    for (uint64_t before = 0; !HasFailure();) {
      before = info_of(generation).n_drafted;
      take(next_event(generation), out);
      if (info_of(generation).n_drafted >= before + 3) return;
    }
  }
  // What follows when the host does something after a few drafted tokens, with drafts and without.
  void expect_the_same_after(const std::function<void(finermoe_session*, finermoe_generation*)>& act) {
    auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
    auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
    Generated found, expected;
    if (drafts()) advance_to_drafts(with.get(), found);
    while (expected.ids.size() < found.ids.size()) take(next_event(without.get()), expected);
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
    act(on.get(), with.get());
    act(plain_on.get(), without.get());
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
    const Generated rest = run_out(with.get()), plain_rest = run_out(without.get());
    expect_equal(rest, plain_rest, "after the host's act");
    EXPECT_EQ(saved(on.get()), saved(plain_on.get()));  // tokens and every bit of the cache
  }
};

// All of them with the fastest instruction set, and with the others, which are slow, what their kernels differ in.
TEST_F(Lookup, GivesTheTokensOfEachFormatPrecisionAndCache) {
  if (!drafts()) GTEST_SKIP() << "there are no drafts on this device";
  for (const char* name : {"tiny-wordnet-dense", "tiny-wordnet-finermoe"}) {
    const std::string source = golden::trained(name);
    const std::string paths[] = {source, quantized(source, FINERMOE_DTYPE_Q8), quantized(source, FINERMOE_DTYPE_Q4)};
    for (const int32_t isa : instruction_sets()) {
      const bool is_fastest = isa == instruction_sets().back();
      if (!is_fastest && std::string_view(name) == "tiny-wordnet-dense") continue;
      const RuntimeHandle runtime = open_runtime(2, isa);
      for (const std::string& path : paths) {
        const ModelHandle of = open_model(path, runtime.get());
        uint64_t n_accepted = 0;
        for (const int32_t precision : {FINERMOE_PRECISION_EXACT, FINERMOE_PRECISION_FAST}) {
          for (const int32_t kv_dtype : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_Q8}) {
            for (const Ids& prompt : prompts()) {
              if (!is_fastest && (kv_dtype != FINERMOE_DTYPE_F32 || prompt.size() > 10)) continue;
              auto on = open_in(of.get(), precision, kv_dtype), plain_on = open_in(of.get(), precision, kv_dtype);
              auto with = generate(on.get(), options_with(of.get(), 8).get(), prompt);
              auto without = generate(plain_on.get(), options_with(of.get(), 0).get(), prompt);
              expect_equal(run_out(with.get()), run_out(without.get()),
                           path + ", set " + std::to_string(isa) + ", precision " + std::to_string(precision));
              EXPECT_EQ(saved(on.get()), saved(plain_on.get()));
              n_accepted += info_of(with.get()).n_accepted;
              EXPECT_EQ(info_of(without.get()).n_drafted, 0u);
            }
          }
        }
        EXPECT_GT(n_accepted, is_fastest ? 40u : 10u) << path;
      }
    }
  }
}

TEST_F(Lookup, GivesTheTokensOfEachSeedAndPenalty) {
  const auto sampled = [](uint64_t seed, double temperature) {
    return [=](finermoe_generation_options* o) {
      EXPECT_DONE(finermoe_generation_options_set_temperature(o, temperature, e));
      EXPECT_DONE(finermoe_generation_options_set_seed(o, seed, e));
    };
  };
  std::vector<OptionSetter> setups;
  for (uint64_t seed = 0; seed < 8; seed++) setups.push_back(sampled(seed, seed % 2 == 0 ? 0.3 : 0.8));
  setups.push_back([](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_repetition_penalty(o, 1.1, e));
    EXPECT_DONE(finermoe_generation_options_set_top_logprobs(o, 3, e));
  });
  setups.push_back([](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_temperature(o, 0.5, e));
    EXPECT_DONE(finermoe_generation_options_set_frequency_penalty(o, 0.1, e));
    EXPECT_DONE(finermoe_generation_options_set_top_p(o, 0.9, e));
  });
  setups.push_back([](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_ignore_eos(o, 0, e));
    EXPECT_DONE(finermoe_generation_options_add_stop_string(o, "earth, and the earth, and", 25, e));
  });
  for (size_t i = 0; i < setups.size(); i++) {
    auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
    auto with = begin(on.get(), 8, setups[i]), without = begin(plain_on.get(), 0, setups[i]);
    expect_equal(run_out(with.get()), run_out(without.get()), "setup " + std::to_string(i));
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
  }
}

TEST_F(Lookup, ReportsTheLikeliestOfEachToken) {
  const OptionSetter setup = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_top_logprobs(o, 3, e));
  };
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8, setup), without = begin(plain_on.get(), 0, setup);
  for (int32_t finish = FINERMOE_FINISH_NONE; finish == FINERMOE_FINISH_NONE && !HasFailure();) {
    const finermoe_event found = next_event(with.get()), expected = next_event(without.get());
    ASSERT_EQ(found.n_top, expected.n_top);
    EXPECT_TRUE(std::equal(found.top_ids, found.top_ids + found.n_top, expected.top_ids));
    EXPECT_TRUE(std::equal(found.top_logprobs, found.top_logprobs + found.n_top, expected.top_logprobs));
    finish = found.finish_reason;
  }
}

TEST_F(Lookup, SavesPassesWhereTheTextRepeatsItself) {
  if (!drafts()) GTEST_SKIP() << "there are no drafts on this device";
  auto generation = begin(session.get(), 8);
  const Generated out = run_out(generation.get());
  const auto info = info_of(generation.get());
  EXPECT_GT(info.n_accepted, out.ids.size() / 3);
  EXPECT_LE(info.n_accepted, info.n_drafted);
}

TEST_F(Lookup, NeverChoosesMoreThanAskedForAndFits) {
  for (size_t n = 1; n < 60; n += n < 10 ? 1 : 7) {
    auto on = open_session(model.get(), 256);
    auto with = begin(on.get(), 64, [&](finermoe_generation_options* o) {
      EXPECT_DONE(finermoe_generation_options_set_max_tokens(o, n, e));
    });
    const Generated limited = run_out(with.get());
    EXPECT_EQ(limited.ids.size(), n);
    EXPECT_EQ(limited.finish, FINERMOE_FINISH_MAX_TOKENS);

    auto small = open_session(model.get(), repeating_.size() + n), plain = open_session(model.get(), 4 + n);
    expect_equal(run_out(begin(small.get(), 64).get()), run_out(begin(plain.get(), 0).get()), "at the context's end");
  }
}

// A session's scratch has rows for its chunk and no more.
TEST_F(Lookup, DraftsNoMoreThanAChunk) {
  for (const size_t chunk : {1, 2, 3}) {
    auto on = open_session(model.get(), 256, chunk), plain_on = open_session(model.get(), 256, chunk);
    auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
    expect_equal(run_out(with.get()), run_out(without.get()), "chunk");
    EXPECT_EQ(info_of(with.get()).n_drafted > 0, drafts() && chunk > 1);
  }
}

TEST_F(Lookup, TokensComputedAheadAreSeenByNoCallOfTheSession) {
  using Act = std::function<void(finermoe_session*, finermoe_generation*)>;
  const Ids more = {260, 1451, 11};
  const std::map<std::string, Act> acts = {
      {"nothing", [](auto*, auto*) {}},
      {"append", [&](auto* s, auto*) { append(s, more); }},
      {"append with logits", [&](auto* s, auto*) { append(s, more, FINERMOE_LOGITS_ALL); }},
      {"truncate", [](auto* s, auto*) { EXPECT_DONE(finermoe_session_truncate(s, info_of(s).length - 2, e)); }},
      {"truncate to what is computed",
       [](auto* s, auto*) { EXPECT_DONE(finermoe_session_truncate(s, info_of(s).length - 1, e)); }},
      {"remove", [](auto* s, auto*) { EXPECT_DONE(finermoe_session_remove(s, 1, 3, e)); }},
      {"context", [](auto* s, auto*) { EXPECT_DONE(finermoe_session_set_context_length(s, 200, e)); }},
      {"prepare", [](auto*, auto* g) { EXPECT_DONE(finermoe_generation_prepare(g, nullptr, e)); }},
      {"append to the request",
       [&](auto*, auto* g) { EXPECT_DONE(finermoe_generation_append(g, more.data(), more.size(), e)); }},
      {"fork",
       [](auto* s, auto*) {
         make<SessionHandle>([&](auto** out, auto** e) { return finermoe_session_fork(s, out, e); });
       }},
      {"save and restore",
       [](auto* s, auto*) {
         const auto data = saved(s);
         EXPECT_DONE(finermoe_session_restore_memory(s, data.data(), data.size(), e));
       }},
      {"score",
       [&](auto* s, auto*) {
         std::vector<float> logprobs(more.size());
         std::vector<int32_t> likeliest(more.size());
         size_t needed = 0;
         EXPECT_DONE(finermoe_session_score(s, more.data(), more.size(), nullptr, logprobs.data(), likeliest.data(),
                                            more.size(), &needed, e));
       }},
  };
  for (const auto& [name, act] : acts) {
    SCOPED_TRACE(name);
    expect_the_same_after(act);
  }
}

TEST_F(Lookup, TheHostReadsAndChangesTheLogitsThatThereAreWithout) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
  const auto logits_of = [](finermoe_generation* g) {
    EXPECT_DONE(finermoe_generation_prepare(g, nullptr, e));
    return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(g, out, capacity, needed, e);
    });
  };
  Generated found, expected;
  for (size_t i = 0; i < 50; i++) {
    if (i % 3 == 0) {  // in the middle of what was computed ahead as well
      std::vector<float> logits = logits_of(with.get());
      EXPECT_EQ(logits, logits_of(without.get()));
      if (i % 2 == 0) {
        *std::max_element(logits.begin(), logits.end()) = -INFINITY;
        EXPECT_DONE(finermoe_generation_set_logits(with.get(), logits.data(), logits.size(), e));
        EXPECT_DONE(finermoe_generation_set_logits(without.get(), logits.data(), logits.size(), e));
      }
    }
    take(next_event(with.get()), found);
    take(next_event(without.get()), expected);
  }
  expect_equal(found, expected, "with hooks");
}

TEST_F(Lookup, ATraceRecordsEveryTokenThatItWouldWithout) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
  Generated found, expected;
  if (drafts()) advance_to_drafts(with.get(), found);
  while (expected.ids.size() < found.ids.size()) take(next_event(without.get()), expected);
  const auto routes_of_the_rest = [&](finermoe_session* of, finermoe_generation* generation) {
    auto trace = make<TraceHandle>(
        [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_ROUTES, out, e); });
    EXPECT_DONE(finermoe_session_set_trace(of, trace.get(), e));
    const uint64_t n_before = info_of(generation).n_drafted;
    run_out(generation);
    EXPECT_EQ(info_of(generation).n_drafted, n_before);
    return read_array<int32_t>([&](int32_t* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_trace_experts(trace.get(), 1, out, capacity, needed, e);
    });
  };
  EXPECT_EQ(routes_of_the_rest(on.get(), with.get()), routes_of_the_rest(plain_on.get(), without.get()));
}

TEST_F(Lookup, GoesOnAfterSavingInTheMiddle) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
  Generated found, expected;
  if (drafts()) advance_to_drafts(with.get(), found);
  const auto request = read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_generation_save_memory(with.get(), out, capacity, needed, e);
  });
  const auto held = saved(on.get());
  auto other = open_session(model.get(), 256);
  EXPECT_DONE(finermoe_session_restore_memory(other.get(), held.data(), held.size(), e));
  auto resumed = make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(other.get(), request.data(), request.size(), out, e);
  });
  const uint64_t n_before = info_of(resumed.get()).n_drafted;
  EXPECT_EQ(n_before, info_of(with.get()).n_drafted);
  const Generated rest = run_out(resumed.get());
  found.ids.insert(found.ids.end(), rest.ids.begin(), rest.ids.end());
  EXPECT_EQ(found.ids, run_out(without.get()).ids);
  EXPECT_TRUE(!drafts() || info_of(resumed.get()).n_drafted > n_before);  // the option was saved too
}

// A request of version 1 ends where the fields of version 2 are left out.
TEST_F(Lookup, RequestsThatWereSavedBeforeThereWereDraftsAreRead) {
  const auto endless = [](auto* o) { EXPECT_DONE(finermoe_generation_options_clear_stop_tokens(o, e)); };
  auto generation = begin(session.get(), 8, endless);
  Generated first;
  for (size_t i = 0; i < 10; i++) take(next_event(generation.get()), first);
  const auto data = read_array<char>([&](char* out, size_t capacity, size_t* needed, finermoe_error** e) {
    return finermoe_generation_save_memory(generation.get(), out, capacity, needed, e);
  });
  std::string old(data.begin(), data.end() - 64);
  constexpr size_t strings = 2 * (8 + 64), numbers = 7 * 8 + 2 * 8, no_biases = 2 * 8, counts = 2 * 8, no_stops = 2 * 8;
  constexpr size_t added_at = 12 + strings + numbers + no_biases + counts + no_stops + 2 + 8;
  ASSERT_EQ(old[added_at], 8);  // the most drafts
  old.erase(added_at, 3 * 8);
  old[8] = 1;
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(old.data()), old.size(), digest);
  for (const unsigned char byte : digest) {
    old += "0123456789abcdef"[byte >> 4];
    old += "0123456789abcdef"[byte & 15];
  }
  auto other = open_session(model.get(), 256);
  append(other.get(), session_tokens(session.get()));
  auto resumed = make<GenerationHandle>([&](auto** out, auto** e) {
    return finermoe_generation_restore_memory(other.get(), old.data(), old.size(), out, e);
  });
  EXPECT_EQ(run_out(resumed.get()).ids, run_out(generation.get()).ids);
  EXPECT_EQ(info_of(resumed.get()).n_drafted, 0u);
}

TEST_F(Lookup, CancellingLosesNothing) {
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), 8), without = begin(plain_on.get(), 0);
  Generated found;
  while (found.finish == FINERMOE_FINISH_NONE && !HasFailure()) {
    finermoe_cancel_request(cancel.get());
    finermoe_event event{};
    event.struct_size = sizeof event;
    const Failure failure =
        failure_of([&](auto** e) { return finermoe_generation_next(with.get(), cancel.get(), &event, e); });
    EXPECT_EQ(failure.code, FINERMOE_ERROR_CANCELLED);
    finermoe_cancel_reset(cancel.get());
    take(next_event(with.get(), cancel.get()), found);
  }
  expect_equal(found, run_out(without.get()), "cancelled before each token");
}

TEST_F(Lookup, MembersOfABatchHaveTheTokensOfEachAlone) {
  const std::string path = quantized(golden::trained("tiny-wordnet-finermoe"), FINERMOE_DTYPE_Q8);
  const ModelHandle of = open_model(path);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> members;
  std::map<uint64_t, Generated> found;
  for (size_t i = 0; i < 8; i++) {
    sessions.push_back(open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32));
    const size_t n_draft = i % 3 == 2 ? 0 : 4 * i + 1;
    members.push_back(generate(sessions[i].get(), options_with(of.get(), n_draft).get(), prompts()[i % 3]));
    EXPECT_DONE(finermoe_generation_set_tag(members[i].get(), i, e));
    EXPECT_DONE(finermoe_batch_add(batch.get(), members[i].get(), e));
  }
  while (!HasFailure()) {
    uint64_t tag = 0;
    finermoe_event event{};
    event.struct_size = sizeof event;
    EXPECT_DONE(finermoe_batch_next(batch.get(), nullptr, &tag, &event, e));
    if (event.token < 0) break;
    take(event, found[tag]);
  }
  uint64_t n_accepted = 0;
  for (size_t i = 0; i < members.size(); i++) {
    n_accepted += info_of(members[i].get()).n_accepted;
    auto alone_on = open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32);
    auto alone = generate(alone_on.get(), options_with(of.get(), 0).get(), prompts()[i % 3]);
    expect_equal(found[i], run_out(alone.get()), "member " + std::to_string(i));
  }
  EXPECT_TRUE(!drafts() || n_accepted > 50u);
}

// The members' drafts have no room in memory: they go on without.
TEST_F(Lookup, NeedsNoMoreMemoryThanWithout) {
  const std::string path = golden::trained("tiny-wordnet-finermoe");
  constexpr size_t n_members = 4;
  struct Members {
    std::vector<SessionHandle> sessions;
    std::vector<GenerationHandle> generations;
  };
  const auto memory_of = [](finermoe_runtime* runtime) {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime, &info, e));
    return info.memory_used;
  };
  const auto open_members = [&](finermoe_model* of) {
    Members members;
    for (size_t i = 0; i < n_members; i++) {
      members.sessions.push_back(open_session(of, 256));
      members.generations.push_back(generate(members.sessions[i].get(), options_with(of, 8).get(), repeating_));
    }
    return members;
  };
  uint64_t limit = 0;
  {
    const RuntimeHandle runtime = open_runtime(2);
    const ModelHandle of = open_model(path, runtime.get());
    const Members members = open_members(of.get());
    limit = memory_of(runtime.get()) + n_members * 4096 * sizeof(float) + 4096;
  }
  const RuntimeHandle runtime = open_runtime(2, FINERMOE_ISA_AUTO, limit);
  const ModelHandle of = open_model(path, runtime.get());
  const Members members = open_members(of.get());
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  for (const auto& member : members.generations) EXPECT_DONE(finermoe_batch_add(batch.get(), member.get(), e));
  for (size_t step = 0; step < 60; step++) {
    size_t n_active = 0;
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    EXPECT_EQ(n_active, n_members);
    for (const auto& member : members.generations) next_event(member.get());
  }
  for (const auto& member : members.generations) EXPECT_EQ(info_of(member.get()).n_generated, 60u);
}

// A session restored into a model whose embedding of one token is not finite: the token was computed before, and only a
// draft would compute it again.
TEST_F(Lookup, ADraftThatCannotBeComputedIsLeftOut) {
  const Ids text = {300, 301, 777, 302, 303, 300, 301};
  const auto banned = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_add_banned_token(o, 777, e));
  };
  append(session.get(), text);
  const auto held = saved(session.get());
  const ChangedModel changed(golden::trained("tiny-wordnet-finermoe"));
  changed.fill("model.embed_tokens.weight", 777 * 192, 192, INFINITY);
  const ModelHandle of = open_model(changed.path());
  const auto rest = [&](size_t n_draft) {
    auto on = open_session(of.get(), 256);
    EXPECT_DONE(finermoe_session_restore_memory(on.get(), held.data(), held.size(), e));
    return run_out(generate(on.get(), options_with(of.get(), n_draft, banned).get(), {}).get());
  };
  expect_equal(rest(8), rest(0), "without the draft");
}

TEST_F(Lookup, CountsItsRowsOnTheAccount) {
  if (!drafts()) GTEST_SKIP() << "there are no drafts on this device";
  RuntimeHandle runtime =
      make<RuntimeHandle>([&](auto** out, auto** e) { return finermoe_runtime_open_model(model.get(), out, e); });
  const auto allocated = [&] {
    finermoe_runtime_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
    return info.memory_used;
  };
  const uint64_t before = allocated();
  const auto plain = begin(session.get(), 0);
  const uint64_t row = allocated() - before;
  const auto with = begin(session.get(), 8);
  EXPECT_GE(allocated() - before, row + 9 * row);
}

TEST_F(Lookup, RefusesMoreDraftsThanAPassHas) {
  auto more = generation_options(model.get());
  const Failure failure =
      failure_of([&](auto** e) { return finermoe_generation_options_set_lookup(more.get(), 65, e); });
  EXPECT_EQ(failure.code, FINERMOE_ERROR_INVALID_ARGUMENT);
  EXPECT_EQ(failure.expected, "0 to 64");
}

}  // namespace
