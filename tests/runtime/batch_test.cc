// A member of a batch that cannot go on fails alone: its own `next` says why, each time, and the others have the bits
// that they would have had without it.
#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "../support/changed_model.h"
#include "../support/golden.h"
#include "../support/handles.h"

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr int32_t bad_id = 7;  // whose embedding is NaN
constexpr size_t n_tokens = 6;

std::string shape(const char* name) { return golden::source_root() + "/tests/data/shapes/" + name; }

using Prompt = std::vector<int32_t>;
using Steps = std::vector<std::vector<float>>;  // the logits of each

struct Member {
  SessionHandle session;
  GenerationHandle generation;
  Steps steps;

  Member(finermoe_model* model, const Prompt& prompt) : session(open_session(model, 32)) {
    auto options = generation_options(model);
    EXPECT_DONE(finermoe_generation_options_set_temperature(options.get(), 0, e));
    EXPECT_DONE(finermoe_generation_options_set_max_tokens(options.get(), n_tokens, e));
    EXPECT_DONE(finermoe_generation_options_set_ignore_eos(options.get(), 1, e));
    generation = generate(session.get(), options.get(), prompt);
  }
  finermoe_generation_info info() const {
    finermoe_generation_info info{};
    info.struct_size = sizeof info;
    EXPECT_DONE(finermoe_generation_get_info(generation.get(), &info, e));
    return info;
  }
  std::vector<float> logits() const {
    return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(generation.get(), out, capacity, needed, e);
    });
  }
  Failure next_fails() const {
    return failure_of([&](finermoe_error** e) {
      finermoe_event event{};
      event.struct_size = sizeof event;
      return finermoe_generation_next(generation.get(), nullptr, &event, e);
    });
  }
  // The token that a host would force.
  void choose(int32_t id) const {
    std::vector<float> logits(320, -std::numeric_limits<float>::infinity());
    logits[static_cast<size_t>(id)] = 0;
    EXPECT_DONE(finermoe_generation_set_logits(generation.get(), logits.data(), logits.size(), e));
    EXPECT_EQ(next_event(generation.get()).token, id);
  }
};

struct Group {
  BatchHandle batch;
  std::vector<Member> members;

  Group(finermoe_model* model, const std::vector<Prompt>& prompts)
      : batch(make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(model, out, e); })) {
    for (const Prompt& prompt : prompts) {
      members.emplace_back(model, prompt);
      EXPECT_DONE(finermoe_batch_add(batch.get(), members.back().generation.get(), e));
    }
  }
  size_t step() {
    size_t n_active = 99;
    EXPECT_DONE(finermoe_batch_step(batch.get(), nullptr, &n_active, e));
    return n_active;
  }
  void take_tokens() {
    for (Member& member : members) {
      const auto info = member.info();
      if (info.prepared == 0 || info.status != FINERMOE_OK) continue;
      member.steps.push_back(member.logits());
      next_event(member.generation.get());
    }
  }
  void run_out() {
    for (size_t i = 0; step() != 0; i++) {
      ASSERT_LT(i, 100u) << "the batch never ends";
      take_tokens();
    }
  }
};

void expect_not_finite(const Member& member, const char* part_of_message) {
  for (int i = 0; i < 3; i++) {
    const Failure failure = member.next_fails();
    EXPECT_EQ(failure.code, FINERMOE_ERROR_NOT_FINITE);
    EXPECT_NE(failure.message.find(part_of_message), std::string::npos) << failure.message;
    EXPECT_EQ(member.info().status, FINERMOE_ERROR_NOT_FINITE);
    EXPECT_EQ(member.info().finish_reason, FINERMOE_FINISH_NONE);
  }
}

const std::vector<Prompt> good_prompts = {{1, 2, 3}, {40, 41, 42, 43, 44, 45}, {100}, {200, 201}};

TEST(Batches, AMemberWithARouterLogitThatIsNotFiniteFailsAlone) {
  const ChangedModel changed(shape("finermoe-32-1-2-2"));
  changed.fill("model.embed_tokens.weight", size_t{bad_id} * 64, 64, not_a_number);
  auto model = open_model(changed.path());
  Group without(model.get(), good_prompts);
  without.run_out();

  std::vector<Prompt> prompts = good_prompts;
  prompts.insert(prompts.begin() + 1, {10, 11, bad_id, 13});
  prompts.push_back({bad_id});
  Group with(model.get(), prompts);
  EXPECT_EQ(with.step(), good_prompts.size());  // the bad ones are no longer among those that go on
  with.take_tokens();
  with.run_out();
  for (size_t bad : {size_t{1}, prompts.size() - 1}) {
    EXPECT_TRUE(with.members[bad].steps.empty());
    EXPECT_EQ(session_tokens(with.members[bad].session.get()), prompts[bad]);
    expect_not_finite(with.members[bad], "router");
  }
  for (size_t i = 0; i < good_prompts.size(); i++) {
    const Member& found = with.members[i < 1 ? i : i + 1];
    EXPECT_EQ(found.steps.size(), n_tokens);
    EXPECT_TRUE(found.steps == without.members[i].steps) << "member " << i;
    EXPECT_EQ(session_tokens(found.session.get()), session_tokens(without.members[i].session.get()));
  }
  EXPECT_EQ(with.step(), 0u);
}

TEST(Batches, AMemberThatFailsInTheMiddleLeavesTheOthersTheirBits) {
  const ChangedModel changed(shape("finermoe-32-1-2-2"));
  changed.fill("model.embed_tokens.weight", size_t{bad_id} * 64, 64, not_a_number);
  auto model = open_model(changed.path());
  Group without(model.get(), good_prompts), with(model.get(), good_prompts);
  for (Group* group : {&without, &with}) {
    EXPECT_EQ(group->step(), good_prompts.size());
    group->take_tokens();
    group->step();
  }
  EXPECT_DONE(finermoe_batch_remove(without.batch.get(), without.members[2].generation.get(), e));
  with.members[2].choose(bad_id);
  for (size_t i : {0, 1, 3}) {
    for (Group* group : {&without, &with}) next_event(group->members[i].generation.get());
  }
  const size_t length = session_tokens(with.members[2].session.get()).size();
  EXPECT_EQ(with.step(), 3u);
  with.take_tokens();
  with.run_out();
  EXPECT_EQ(without.step(), 3u);
  without.take_tokens();
  without.run_out();
  expect_not_finite(with.members[2], "router");
  EXPECT_EQ(session_tokens(with.members[2].session.get()).size(), length);
  for (size_t i : {0, 1, 3}) {
    EXPECT_EQ(with.members[i].steps.size(), n_tokens - 1);
    EXPECT_TRUE(with.members[i].steps == without.members[i].steps) << "member " << i;
  }
  // Its session is usable without that token.
  EXPECT_EQ(finermoe_session_append(with.members[2].session.get(), good_prompts[0].data(), 3, 0, nullptr, nullptr),
            FINERMOE_ERROR_NOT_FINITE);
  EXPECT_EQ(session_tokens(with.members[2].session.get()).size(), length);
  EXPECT_DONE(finermoe_session_truncate(with.members[2].session.get(), length - 1, e));
  EXPECT_DONE(finermoe_session_append(with.members[2].session.get(), good_prompts[0].data(), 3, 0, nullptr, e));
}

TEST(Batches, AMemberWithLogitsThatAreNotFiniteFailsAlone) {
  const ChangedModel changed(shape("dense-untied-sharded"));
  changed.fill("model.embed_tokens.weight", size_t{bad_id} * 64, 64, not_a_number);
  auto model = open_model(changed.path());
  Group group(model.get(), {good_prompts[0], {bad_id}, good_prompts[1]});
  EXPECT_EQ(group.step(), 2u);
  expect_not_finite(group.members[1], "logits");
  group.take_tokens();
  group.run_out();
  EXPECT_EQ(group.members[0].steps.size(), n_tokens);
  EXPECT_EQ(group.members[2].steps.size(), n_tokens);
  expect_not_finite(group.members[1], "logits");
  group.members[1].choose(100);  // a host that gives logits of its own helps it on, as far as the next ones
  EXPECT_EQ(group.step(), 0u);
  expect_not_finite(group.members[1], "logits");
}

TEST(Batches, AnInfiniteLogitIsNoLikelyToken) {
  const ChangedModel changed(shape("dense-untied-sharded"));
  changed.fill("lm_head.weight", 11 * 64, 1, std::numeric_limits<float>::infinity());
  auto model = open_model(changed.path());
  Group group(model.get(), good_prompts);
  group.step();
  size_t n_failed = 0;
  for (const Member& member : group.members) {
    const float logit = member.logits()[11];
    ASSERT_FALSE(std::isfinite(logit));
    const bool fails = !(logit < 0);  // -infinity is a token that never comes
    n_failed += fails;
    if (fails) {
      expect_not_finite(member, "logits");
    } else {
      EXPECT_TRUE(std::isfinite(next_event(member.generation.get()).logprob));
    }
  }
  EXPECT_GT(n_failed, 0u);
}

TEST(Batches, ADamagedRouterFailsEveryMemberAndEndsTheBatch) {
  const ChangedModel changed(shape("finermoe-32-1-2-2"));
  changed.fill("model.layers.1.mlp.gate.weight", 5 * 64, 64, not_a_number);
  auto model = open_model(changed.path());
  Group group(model.get(), good_prompts);
  EXPECT_EQ(group.step(), 0u);
  for (const Member& member : group.members) expect_not_finite(member, "expert 5");
}

TEST(Batches, AMemberWhoseSessionCannotGoOnSaysWhy) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  Group group(model.get(), {{1}, {2}, {3}, {4}, {5}});
  EXPECT_EQ(group.step(), 5u);
  group.take_tokens();
  finermoe_session_close(group.members[0].session.get());
  finermoe_generation_close(group.members[1].generation.get());
  const std::vector<int32_t> much(30, 9);  // the session is full then
  EXPECT_DONE(finermoe_session_append(group.members[2].session.get(), much.data(), much.size(), 0, nullptr, e));
  EXPECT_DONE(finermoe_session_reset(group.members[3].session.get(), e));
  EXPECT_EQ(group.step(), 2u);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(group.members[0].next_fails().code, FINERMOE_ERROR_CLOSED);
    EXPECT_EQ(group.members[0].info().status, FINERMOE_ERROR_CLOSED);
    EXPECT_EQ(group.members[1].next_fails().code, FINERMOE_ERROR_CLOSED);
    EXPECT_EQ(group.members[3].next_fails().code, FINERMOE_ERROR_STATE);
    EXPECT_EQ(group.members[3].info().status, FINERMOE_ERROR_STATE);
  }
  EXPECT_DONE(finermoe_session_append(group.members[3].session.get(), much.data(), 3, 0, nullptr, e));
  EXPECT_EQ(group.members[3].info().status, FINERMOE_OK);
  EXPECT_EQ(group.step(), 3u);
  EXPECT_EQ(next_event(group.members[2].generation.get()).finish_reason, FINERMOE_FINISH_CONTEXT_FULL);
  EXPECT_EQ(group.step(), 2u);
}

TEST(Batches, AMemberThatAnotherThreadUsesSitsOut) {
  auto model = open_model(shape("finermoe-32-1-2-2"));
  struct Gate {
    std::atomic<bool> reached{false}, open{false};
  } gate;
  auto options = make<SessionOptions>([](auto** out, auto** e) { return finermoe_session_options_create(out, e); });
  EXPECT_DONE(finermoe_session_options_set_chunk(options.get(), 1, e));
  auto wait_at_gate = [](void* user, const char*, uint64_t, uint64_t) -> int32_t {
    auto& g = *static_cast<Gate*>(user);
    g.reached = true;
    while (!g.open) std::this_thread::yield();
    return 0;
  };
  EXPECT_DONE(finermoe_session_options_set_progress(options.get(), wait_at_gate, &gate, e));
  auto busy = make<SessionHandle>(
      [&](auto** out, auto** e) { return finermoe_session_create(model.get(), options.get(), out, e); });
  auto generation = generate(busy.get(), nullptr, {1});
  Group group(model.get(), good_prompts);
  EXPECT_DONE(finermoe_batch_add(group.batch.get(), generation.get(), e));
  std::thread other([&] {
    const int32_t ids[] = {1, 2, 3};
    EXPECT_DONE(finermoe_session_append(busy.get(), ids, 3, 0, nullptr, e));
  });
  while (!gate.reached) std::this_thread::yield();
  EXPECT_EQ(group.step(), good_prompts.size() + 1);  // it can go on later
  for (const Member& member : group.members) EXPECT_EQ(member.info().prepared, 1);
  for (int i = 0; i < 2; i++) {
    EXPECT_EQ(finermoe_generation_prepare(generation.get(), nullptr, nullptr), FINERMOE_ERROR_BUSY);
  }
  gate.open = true;
  other.join();
  group.step();
  EXPECT_GE(next_event(generation.get()).token, 0);
}

TEST(Batches, AMemberWhoseTraceHasNoRoomFailsAlone) {
  uint64_t limit = 0;
  for (const bool is_limited : {false, true}) {  // first what it takes without a trace, then that and a little more
    auto runtime = open_runtime(1, FINERMOE_ISA_AUTO, limit);
    auto model = open_model(shape("finermoe-32-1-2-2"), runtime.get());
    Group group(model.get(), good_prompts);
    auto trace = make<TraceHandle>(
        [&](auto** out, auto** e) { return finermoe_trace_create(model.get(), FINERMOE_TRACE_LOGITS, out, e); });
    if (is_limited) EXPECT_DONE(finermoe_session_set_trace(group.members[1].session.get(), trace.get(), e));
    EXPECT_EQ(group.step(), good_prompts.size() - is_limited);
    if (!is_limited) {
      finermoe_runtime_info info{};
      info.struct_size = sizeof info;
      EXPECT_DONE(finermoe_runtime_get_info(runtime.get(), &info, e));
      limit = info.memory_peak + 100;
      continue;
    }
    for (int i = 0; i < 2; i++) EXPECT_EQ(group.members[1].next_fails().code, FINERMOE_ERROR_MEMORY_LIMIT);
    EXPECT_EQ(group.members[1].info().status, FINERMOE_ERROR_MEMORY_LIMIT);
    EXPECT_EQ(group.members[0].info().prepared, 1);
    EXPECT_DONE(finermoe_session_set_trace(group.members[1].session.get(), nullptr, e));
    EXPECT_GE(next_event(group.members[1].generation.get()).token, 0);  // its own next succeeds: it takes part again
    EXPECT_EQ(group.members[1].info().status, FINERMOE_OK);
    group.step();
    EXPECT_EQ(group.members[1].info().prepared, 1);
  }
}

// What a failed pass wrote into a cache is not seen by the tokens that come after.
TEST(Batches, NothingOfAFailedPassStaysInTheCache) {
  for (const char* name : {"finermoe-32-1-2-2", "dense-untied-sharded"}) {
    const ChangedModel changed(shape(name));
    changed.fill("model.embed_tokens.weight", size_t{bad_id} * 64, 64, not_a_number);
    auto model = open_model(changed.path());
    for (int32_t kv_dtype : {FINERMOE_DTYPE_F32, FINERMOE_DTYPE_F16, FINERMOE_DTYPE_BF16, FINERMOE_DTYPE_Q8}) {
      auto fresh = open_session(model.get(), 64, 0, kv_dtype), used = open_session(model.get(), 64, 0, kv_dtype);
      const std::vector<int32_t> bad(40, bad_id);
      finermoe_session_append(used.get(), bad.data(), bad.size(), FINERMOE_LOGITS_NONE, nullptr, nullptr);
      EXPECT_DONE(finermoe_session_reset(used.get(), e));
      for (int32_t id : {1, 2, 3, 4, 5}) {
        for (const auto& session : {fresh.get(), used.get()}) {
          EXPECT_DONE(finermoe_session_append(session, &id, 1, FINERMOE_LOGITS_LAST, nullptr, e));
        }
        EXPECT_EQ(session_logits(used.get(), 0), session_logits(fresh.get(), 0)) << name << " " << kv_dtype;
      }
    }
  }
}

}  // namespace
