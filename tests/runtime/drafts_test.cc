// Drafts, from the text, by a model, and by both: the tokens are those of a request without, whatever the options and
// the moment at which the host does something else.
#include <map>

#include "drafts.h"
#include "whatever_it_costs.h"

namespace {

enum class By { text, model, both };

class EveryDraft : public Drafts, public testing::WithParamInterface<By> {
 protected:
  void set_drafts(finermoe_generation_options* to, size_t n_draft) override {
    if (GetParam() != By::model) EXPECT_DONE(finermoe_generation_options_set_lookup(to, n_draft, e));
    if (GetParam() == By::text) return;
    EXPECT_DONE(finermoe_generation_options_set_draft(to, draft_model_.get(), n_draft, e));
    draft_whatever_it_costs(to);
  }

 private:
  const ModelHandle draft_model_ = open_model(golden::trained("tiny-wordnet-dense"));
};
std::string name_of(const testing::TestParamInfo<By>& by) {
  return by.param == By::text ? "Text" : by.param == By::model ? "Model" : "Both";
}
INSTANTIATE_TEST_SUITE_P(By, EveryDraft, testing::Values(By::text, By::model, By::both), name_of);

TEST_P(EveryDraft, GivesTheTokensOfEachSeedAndPenalty) {
  const auto sampled = [](uint64_t seed, double temperature) {
    return [=](finermoe_generation_options* o) {
      EXPECT_DONE(finermoe_generation_options_set_temperature(o, temperature, e));
      EXPECT_DONE(finermoe_generation_options_set_seed(o, seed, e));
    };
  };
  std::vector<OptionSetter> setups;
  const uint64_t n_seeds = unless_emulated<uint64_t>(8, 1);
  for (uint64_t seed = 0; seed < n_seeds; seed++) setups.push_back(sampled(seed, seed % 2 == 0 ? 0.3 : 0.8));
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
  const size_t one_of = unless_emulated<size_t>(1, 3);  // there each with one kind of draft
  for (size_t i = static_cast<size_t>(GetParam()) % one_of; i < setups.size(); i += one_of) {
    auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
    auto with = begin(on.get(), n_ahead, setups[i]), without = begin(plain_on.get(), 0, setups[i]);
    expect_equal(run_out(with.get()), run_out(without.get()), "setup " + std::to_string(i));
    EXPECT_EQ(session_tokens(on.get()), session_tokens(plain_on.get()));
  }
}

TEST_P(EveryDraft, ReportsTheLikeliestOfEachToken) {
  const OptionSetter setup = [](finermoe_generation_options* o) {
    EXPECT_DONE(finermoe_generation_options_set_top_logprobs(o, 3, e));
  };
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead, setup), without = begin(plain_on.get(), 0, setup);
  for (int32_t finish = FINERMOE_FINISH_NONE; finish == FINERMOE_FINISH_NONE && !HasFailure();) {
    const finermoe_event found = next_event(with.get()), expected = next_event(without.get());
    ASSERT_EQ(found.n_top, expected.n_top);
    EXPECT_TRUE(std::equal(found.top_ids, found.top_ids + found.n_top, expected.top_ids));
    EXPECT_TRUE(std::equal(found.top_logprobs, found.top_logprobs + found.n_top, expected.top_logprobs));
    finish = found.finish_reason;
  }
}

TEST_P(EveryDraft, NeverChoosesMoreThanAskedForAndFits) {
  for (size_t n = 1; n < n_tokens; n += n < 10 ? unless_emulated<size_t>(1, 6) : 7) {
    auto on = open_session(model.get(), 256);
    auto with = begin(on.get(), 64, [&](finermoe_generation_options* o) {
      EXPECT_DONE(finermoe_generation_options_set_max_tokens(o, n, e));
    });
    const Generated limited = run_out(with.get());
    EXPECT_EQ(limited.ids.size(), n);
    EXPECT_EQ(limited.finish, FINERMOE_FINISH_MAX_TOKENS);

    const size_t context = repeating_.size() + n;
    auto small = open_session(model.get(), context), plain = open_session(model.get(), context);
    expect_equal(run_out(begin(small.get(), 64).get()), run_out(begin(plain.get(), 0).get()), "at the context's end");
  }
}

// A session's scratch has rows for its chunk and no more.
TEST_P(EveryDraft, DraftsNoMoreThanAChunk) {
  // In chunks of 2 a model does not come to the end of the text within so few tokens.
  for (const size_t chunk : unless_emulated<std::vector<size_t>>({1, 2, 3}, {1, 3})) {
    auto on = open_session(model.get(), 256, chunk), plain_on = open_session(model.get(), 256, chunk);
    auto with = begin(on.get(), n_ahead), without = begin(plain_on.get(), 0);
    expect_equal(run_out(with.get()), run_out(without.get()), "chunk");
    EXPECT_EQ(info_of(with.get()).n_drafted > 0, chunk > 1);
  }
}

TEST_P(EveryDraft, TokensComputedAheadAreSeenByNoCallOfTheSession) {
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
  const size_t one_of = unless_emulated<size_t>(1, 3);  // as above
  size_t i = 0;
  for (const auto& [name, act] : acts) {
    SCOPED_TRACE(name);
    if (i++ % one_of == static_cast<size_t>(GetParam()) % one_of) expect_the_same_after(act);
  }
}

TEST_P(EveryDraft, TheHostReadsAndChangesTheLogitsThatThereAreWithout) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead), without = begin(plain_on.get(), 0);
  const auto logits_of = [](finermoe_generation* g) {
    EXPECT_DONE(finermoe_generation_prepare(g, nullptr, e));
    return read_array<float>([&](float* out, size_t capacity, size_t* needed, finermoe_error** e) {
      return finermoe_generation_get_logits(g, out, capacity, needed, e);
    });
  };
  Generated found, expected;
  for (size_t i = 0; i < n_tokens * 5 / 6; i++) {
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

TEST_P(EveryDraft, ATraceRecordsEveryTokenThatItWouldWithout) {
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead), without = begin(plain_on.get(), 0);
  Generated found, expected;
  advance_to_drafts(with.get(), found);
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

TEST_P(EveryDraft, CancellingLosesNothing) {
  auto cancel = make<CancelHandle>([](auto** out, auto** e) { return finermoe_cancel_create(out, e); });
  auto on = open_session(model.get(), 256), plain_on = open_session(model.get(), 256);
  auto with = begin(on.get(), n_ahead), without = begin(plain_on.get(), 0);
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

TEST_P(EveryDraft, MembersOfABatchHaveTheTokensOfEachAlone) {
  const std::string path = quantized(golden::trained("tiny-wordnet-finermoe"), FINERMOE_DTYPE_Q8);
  const ModelHandle of = open_model(path);
  auto batch = make<BatchHandle>([&](auto** out, auto** e) { return finermoe_batch_create(of.get(), out, e); });
  std::vector<SessionHandle> sessions;
  std::vector<GenerationHandle> members;
  ByTag begun;
  const size_t n_members = unless_emulated<size_t>(8, 4);
  for (size_t i = 0; i < n_members; i++) {
    sessions.push_back(open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32));
    const size_t n_draft = i % 3 == 2 ? 0 : 4 * i + 1;
    members.push_back(generate(sessions[i].get(), options_with(of.get(), n_draft).get(), prompts()[i % 3]));
    EXPECT_DONE(finermoe_generation_set_tag(members[i].get(), i, e));
    // A GPU sums more than 16 rows, as of all prompts together, in another order than fewer; so do matrix tiles.
    if (is_all_on_a_gpu() || has_tiles()) take(next_event(members[i].get()), begun[i]);
    EXPECT_DONE(finermoe_batch_add(batch.get(), members[i].get(), e));
  }
  ByTag found = run_out_batch(batch.get(), begun);
  uint64_t n_accepted = 0;
  for (size_t i = 0; i < members.size(); i++) {
    n_accepted += info_of(members[i].get()).n_accepted;
    auto alone_on = open_in(of.get(), FINERMOE_PRECISION_FAST, FINERMOE_DTYPE_F32);
    auto alone = generate(alone_on.get(), options_with(of.get(), 0).get(), prompts()[i % 3]);
    expect_equal(found[i], run_out(alone.get()), "member " + std::to_string(i));
  }
  EXPECT_GT(n_accepted, unless_emulated(50u, 5u));
}

}  // namespace
